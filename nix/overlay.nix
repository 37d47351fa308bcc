# Adds cache-resolver to the packages; the static one is pkgsStatic.cache-resolver.
final: _prev: {
  cache-resolver = final.callPackage ./package.nix { };
}
