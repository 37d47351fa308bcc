# For an installer image: everything is found, nothing is watched.
{ lib, ... }:

{
  imports = [ ./waterbug.nix ];

  services.cache-resolver = {
    watch = lib.mkDefault false;
    # An installer stays where it is, and has nothing else: ask the upstream as often as ever.
    # Stronger than the module's own value, weaker than what nix.settings says.
    settings.download-attempts = lib.mkOverride 1050 3;
  };
}
