# Adds cache-resolver to the packages.
final: _prev: {
  cache-resolver = final.pkgsStatic.callPackage ./package.nix { };
}
