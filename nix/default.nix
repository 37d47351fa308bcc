# For those who do not use flakes: the packages, the overlay and the NixOS modules.
#
#   imports = [ (import /path/to/cache-resolver { }).nixosModules.waterbug ];
{
  pkgs ? import <nixpkgs> { },
}:

rec {
  package = pkgs.callPackage ./package.nix { };
  static = pkgs.pkgsStatic.callPackage ./package.nix { };
  tools = pkgs.callPackage ./tools.nix { cache-resolver = static; };
  overlay = import ./overlay.nix;
  nixosModules = import ./modules.nix;
}
