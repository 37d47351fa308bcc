# Fails to evaluate unless every case of cases.nix is good.
{ pkgs }:

let
  evaluated = import ./. {
    nixpkgs = pkgs.path;
    inherit (pkgs.stdenv.buildPlatform) system;
  };
  # Its name can be had without all that.
  passed =
    if evaluated.failed == [ ] then
      evaluated.passed
    else
      throw "failed: ${builtins.toJSON evaluated.failed}";
in
pkgs.runCommand "cache-resolver-modules" { inherit passed; } "printf '%s\\n' \"$passed\" >$out"
