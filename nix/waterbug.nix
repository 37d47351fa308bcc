# The house's own cache, waterbug.lan, with its key: to import this is all there is to do.
{ lib, ... }:

{
  imports = [ ./build-cache.nix ];

  myModules.services.buildCache.enable = lib.mkDefault true;
}
