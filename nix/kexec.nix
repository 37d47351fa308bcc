# For nixos-images' kexec installer, whose own store is its first substituter ("/"): it is one of
# `nix.settings.extra-substituters`, and so stays among ours.
{
  imports = [ ./iso.nix ];
}
