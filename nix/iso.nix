# For an installer image: everything is found, nothing is watched.
{ lib, ... }:

{
  imports = [ ./build-cache.nix ];

  myModules.services.buildCache.enable = lib.mkDefault true;
  services.cache-resolver = {
    watch = lib.mkDefault false;
    # An installer stays where it is, and has nothing else: ask the upstream as often as ever.
    settings.download-attempts = lib.mkOverride 900 3;
  };
}
