# For those who do not use flakes: the packages, the overlay and the NixOS modules.
#
#   imports = [ (import /path/to/cache-resolver/nix { }).nixosModules.buildCache ];
{
  pkgs ? import <nixpkgs> { },
}:

rec {
  package = pkgs.pkgsStatic.callPackage ./package.nix { };
  tools = pkgs.callPackage ./tools.nix { cache-resolver = package; };
  overlay = import ./overlay.nix;
  nixosModules = import ./modules.nix;
}
