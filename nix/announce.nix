# services.cache-announce: a host that has a binary cache says so on its network (DNS-SD over multicast DNS).
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  ours = import ./types.nix { inherit lib; };
  cfg = config.services.cache-announce;
  inherit (config) services;

  # A server that listens where others can reach it.
  reachable =
    name: listen:
    let
      parts = builtins.match "(.*):([0-9]+)" listen;
      isLoopback = lib.elem (lib.head parts) [
        "127.0.0.1"
        "[::1]"
        "::1"
        "localhost"
      ];
    in
    lib.optional (parts != null && !isLoopback) {
      inherit name;
      port = lib.toInt (lib.last parts);
    };

  isAttic = services.atticd.enable or false;
  attic = reachable "services.atticd" (services.atticd.settings.listen or "[::]:8080");
  # Up to NixOS 25.05 it has no options `cache`.
  harmonia = services.harmonia.cache or services.harmonia or { };
  caches =
    lib.optionals isAttic attic
    ++ lib.optionals (harmonia.enable or false) (
      reachable "services.harmonia.cache" (harmonia.settings.bind or "[::]:5000")
    )
    ++ lib.optionals (services.nix-serve.enable or false) (
      reachable "services.nix-serve" "${services.nix-serve.bindAddress or "0.0.0.0"}:${
        toString services.nix-serve.port or 5000
      }"
    );

  # nginx counts where no cache listens itself: it has other uses.
  portsOf =
    host:
    if host.listen or [ ] != [ ] then
      map (listen: listen.port) (lib.filter (listen: !(listen.ssl or false)) host.listen)
    else
      lib.optional (!(host.onlySSL or false || host.forceSSL or false)) (
        services.nginx.defaultHTTPListenPort or 80
      );
  nginx = map (port: {
    name = "services.nginx";
    inherit port;
  }) (lib.filter (port: port != null) (lib.concatMap portsOf (lib.attrValues services.nginx.virtualHosts)));

  servers = lib.unique (
    if caches == [ ] && (services.nginx.enable or false) then nginx else caches
  );
  ports = lib.unique (map (server: server.port) servers);
in
{
  options.services.cache-announce = {
    enable = lib.mkEnableOption "announcing this host's binary cache on the local network, with Avahi";

    port = mkOption {
      type = types.nullOr types.port;
      default = if lib.length ports == 1 then lib.head ports else null;
      defaultText = lib.literalMD ''
        the port of {option}`services.atticd`, {option}`services.harmonia.cache` or {option}`services.nix-serve`,
        or else of {option}`services.nginx`, where one of them is enabled
      '';
      example = 9999;
      description = "The port on which the cache answers, without TLS.";
    };

    path = mkOption {
      type = ours.announcedPath;
      default = "/";
      example = "/system";
      description = "The cache's path on its server: for attic, a slash and the cache's name.";
    };

    name = mkOption {
      type = types.strMatching ".{1,63}";
      default = "Nix cache on %h";
      description = ''
        What people see who list the network's services; `%h` is the host's name. No two hosts may have the
        same.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Open the firewall for the cache's port. For the questions (5353/udp)
        {option}`services.avahi.openFirewall` opens it, unless you have turned that off.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.port != null;
        message = ''
          services.cache-announce.port: ${
            if servers == [ ] then
              "no cache of services.atticd, services.harmonia.cache, services.nix-serve or services.nginx listens here for the network"
            else
              lib.concatMapStringsSep ", " (server: "${server.name} has ${toString server.port}") servers
          }; set it to the port on which the cache answers
        '';
      }
      {
        assertion = !(isAttic && cfg.path == "/" && lib.elem cfg.port (map (server: server.port) attic));
        message = ''
          services.cache-announce.path: atticd has no cache at /; set it to a slash and the name of the cache
        '';
      }
    ];

    services.avahi = {
      enable = true;
      publish.enable = true;
      publish.addresses = true;
      extraServiceFiles.nix-cache = ''
        <?xml version="1.0" standalone="no"?>
        <!DOCTYPE service-group SYSTEM "avahi-service.dtd">
        <service-group>
          <name replace-wildcards="yes">${lib.escapeXML cfg.name}</name>
          <service>
            <type>_nix-cache._tcp</type>
            <port>${toString cfg.port}</port>
            <txt-record>path=${cfg.path}</txt-record>
          </service>
        </service-group>
      '';
    };
    networking.firewall.allowedTCPPorts = lib.optional (cfg.openFirewall && cfg.port != null) cfg.port;
  };
}
