# For those who do not use flakes: the package, the overlay and the NixOS modules.
#
#   imports = [ (import /path/to/cache-resolver/nix { }).nixosModules.buildCache ];
{
  pkgs ? import <nixpkgs> { },
}:

{
  package = pkgs.pkgsStatic.callPackage ./package.nix { };
  overlay = import ./overlay.nix;
  nixosModules = import ./modules.nix;
}
