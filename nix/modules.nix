# The NixOS modules by name.
rec {
  # services.cache-resolver
  cache-resolver = ./module.nix;
  # myModules.services.buildCache, built on it
  buildCache = ./build-cache.nix;
  default = buildCache;
}
