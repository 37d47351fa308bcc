# nix-build -A package (or static, or tools); see nix/default.nix.
{
  pkgs ? import <nixpkgs> { },
}:

import ./nix { inherit pkgs; }
