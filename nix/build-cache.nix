# myModules.services.buildCache: the binary cache of this house, found at run time or named once.
{
  config,
  lib,
  ...
}:

let
  inherit (lib) mkOption types;
  cfg = config.myModules.services.buildCache;
  # Scheme, name, and port where there is one; the option's type has made sure that it matches.
  server = builtins.match "(https?)://([^/:]+)(:([0-9]+))?/?" cfg.serverUrl;
  port = lib.elemAt server 3;
  isUpstream = lib.hasPrefix "https://cache.nixos.org";
in
{
  imports = [ ./module.nix ];

  options.myModules.services.buildCache = {
    enable = lib.mkEnableOption "the binary cache on the local network";

    dynamicResolution = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Find the cache at boot and whenever the network changes, and use {option}`serverUrl` for its name
        and port only. When this is off, Nix gets {option}`serverUrl` as it is, and stalls where it does
        not answer.
      '';
    };

    serverUrl = mkOption {
      type = types.strMatching "https?://[A-Za-z0-9._-]+(:[0-9]+)?/?";
      default = "http://waterbug.lan:9999";
      description = "The server of the cache.";
    };

    cacheName = mkOption {
      type = types.strMatching "[A-Za-z0-9_+.-]+";
      default = "system";
      description = "The name of the cache on its server.";
    };

    publicKeys = mkOption {
      type = types.listOf types.str;
      default = [
        "system:oio0pk/Mlb/DR3s1b78tHHmOclp82OkQrYOTRlaqays="
        "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
      ];
      description = "Keys whose signatures are accepted.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        # NixOS itself lists cache.nixos.org, unless somebody forces another list.
        warnings = lib.optional (!lib.any isUpstream config.nix.settings.substituters) ''
          myModules.services.buildCache: nix.settings.substituters does not list https://cache.nixos.org;
          Nix has only ${toString config.nix.settings.substituters} where the cache is not there.
        '';
      }
      (lib.mkIf cfg.dynamicResolution {
        assertions = [
          {
            assertion = lib.head server == "http";
            message = ''
              myModules.services.buildCache.serverUrl: ${cfg.serverUrl} cannot be found by asking around, which
              needs http://NAME:PORT; use it as it is with dynamicResolution = false.
            '';
          }
        ];
        services.cache-resolver = {
          enable = true;
          inherit (cfg) publicKeys;
          host = lib.mkDefault (lib.elemAt server 1);
          port = lib.mkDefault (if port == null then 80 else lib.toInt port);
          path = lib.mkDefault "/${cfg.cacheName}";
        };
      })
      (lib.mkIf (!cfg.dynamicResolution) {
        nix.settings.trusted-public-keys = cfg.publicKeys;
        # Before cache.nixos.org by its number; Nix does not go by the place in the list.
        nix.settings.substituters = lib.mkBefore [
          "${lib.removeSuffix "/" cfg.serverUrl}/${cfg.cacheName}?priority=30"
        ];
      })
    ]
  );
}
