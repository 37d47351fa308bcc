# For nixos-images' kexec installer, whose own store is its first substituter ("/"): it is one of
# `nix.settings.extra-substituters`, and so stays among ours.
{ config, lib, ... }:

{
  imports = [ ./iso.nix ];

  # nixos-images says 5 seconds, all of which glibc gives to a nameserver that is dead.
  services.cache-resolver.settings.connect-timeout = lib.mkIf (
    config.nix.settings.connect-timeout or null == 5
  ) (lib.mkOverride 900 10);
}
