# The NixOS modules by name.
rec {
  # services.cache-resolver
  cache-resolver = ./module.nix;
  # myModules.services.buildCache, built on it
  buildCache = ./build-cache.nix;
  default = buildCache;
  # The same, enabled by being imported
  waterbug = ./waterbug.nix;
  # boot.initrd.cache-resolver
  initrd = ./initrd.nix;
  # services.cache-announce, for the host that has the cache
  announce = ./announce.nix;
  # For installer images, and for those that are booted with kexec
  iso = ./iso.nix;
  kexec = ./kexec.nix;
}
