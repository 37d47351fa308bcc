# services.cache-resolver: finds the binary cache on the local network and has Nix use it.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  inherit (lib) mkOption types;
  ours = import ./types.nix { inherit lib; };
  inherit (ours) isSubstituter normalise;
  cfg = config.services.cache-resolver;

  # In the order of nix.conf, where a list may also be written as words.
  words =
    value:
    if lib.isString value then lib.filter (word: word != "") (lib.splitString " " value) else value;
  configured = map normalise (
    words (config.nix.settings.substituters or [ ])
    ++ words (config.nix.settings.extra-substituters or [ ])
  );
  extraLines = lib.splitString "\n" config.nix.extraOptions;
  # The cache under its own name is what is found, or is out of reach.
  isTheCache =
    url:
    lib.any (
      name:
      lib.hasPrefix "${normalise "http://${name}:${toString cfg.port}"}/" (
        lib.head (lib.splitString "?" url) + "/"
      )
    ) (lib.unique [ cfg.host shortName "${shortName}.local" ]);
  listed = lib.filter isTheCache (
    configured ++ map normalise (lib.concatMap words extraLines)
  );
  trustsOthers = lib.any (key: !lib.hasPrefix "cache.nixos.org-1:" key) (
    words (config.nix.settings.trusted-public-keys or [ ])
    ++ words (config.nix.settings.extra-trusted-public-keys or [ ])
    ++ lib.filter (lib.hasInfix "trusted-public-keys") extraLines
  );
  isUnsigned = value: value == false || value == "false";

  # What the configuration says itself holds, though our file comes after it.
  says = name: config.nix.settings.${name} or null != null;
  said = lib.filter says [
    "connect-timeout"
    "stalled-download-timeout"
    "fallback"
  ]
  # The second is the first's name from Nix 2.35 on.
  ++ lib.optional (says "download-attempts" || says "filetransfer-retry-attempts") "download-attempts";

  shortName = lib.head (lib.splitString "." cfg.host);
  setting =
    name: value:
    "${name}=${
      if value == null then
        ""
      else if lib.isBool value then
        lib.boolToString value
      else
        toString value
    }";
  option = name: value: [
    "--${name}"
    (toString value)
  ];
  optional = name: value: lib.optionals (value != null) (option name value);
  repeated = name: lib.concatMap (option name);

  # What the units have in common.
  arguments =
    option "host" cfg.host
    ++ option "port" cfg.port
    ++ option "path" cfg.path
    ++ repeated "upstream" cfg.upstreams
    ++ lib.optional cfg.additive "--additive"
    ++ lib.optional cfg.browse "--browse"
    ++ option "priority" cfg.priority
    ++ repeated "setting" (lib.mapAttrsToList setting cfg.settings)
    ++ repeated "sweep" cfg.sweep
    ++ optional "sweep-rate" cfg.sweepRate
    ++ optional "sweep-limit" cfg.sweepLimit
    ++ lib.optional cfg.verbose "--verbose"
    ++ cfg.extraArgs;

  # `--methods` of the unit that runs once, and of the one that watches.
  methods = list: lib.optionals (list != null) (option "methods" (lib.concatStringsSep "," list));
  later =
    if cfg.methods == null && cfg.sweep == [ ] then
      lib.subtractLists (
        [
          "ping"
          "sweep"
        ]
        ++ lib.optional (!cfg.browse) "announced"
      ) allMethods
    else
      cfg.methods;
  allMethods = [
    "previous"
    "hosts"
    "dns"
    "mdns"
    "announced"
    "gateway"
    "neighbours"
    "ping"
    "sweep"
  ];

  start = own: [
    ""
    (utils.escapeSystemdExecArgs ([ (lib.getExe cfg.package) ] ++ own ++ cfg.arguments))
  ];
in
{
  options.services.cache-resolver = {
    enable = lib.mkEnableOption "finding the Nix binary cache on the local network";

    package = mkOption {
      type = types.package;
      default = pkgs.cache-resolver or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalMD "`pkgs.cache-resolver` of the overlay, or the same without it";
      description = "The package to use.";
    };

    host = mkOption {
      type = types.strMatching "[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*";
      default = "waterbug.lan";
      description = ''
        The name of the cache in DNS and in the hosts file. Its first label is asked over mDNS, with
        `.local`, and names the files in `/run/cache-resolver`.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 9999;
      description = "The cache's port.";
    };

    path = mkOption {
      type = types.strMatching "/[^?# ]*";
      default = "/system";
      description = "The cache's path on its server: for attic, a slash and the cache's name.";
    };

    publicKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "system:oio0pk/Mlb/DR3s1b78tHHmOclp82OkQrYOTRlaqays=" ];
      description = ''
        Keys that the cache signs with, added to `nix.settings.trusted-public-keys`. Without its key
        Nix takes nothing from the cache.
      '';
    };

    upstreams = mkOption {
      type = types.listOf types.str;
      default = lib.unique (lib.filter (url: !isTheCache url) configured);
      defaultText = lib.literalMD "what `nix.settings` lists as `substituters` and `extra-substituters`";
      description = "The substituters that Nix uses besides, and alone when the cache is not there.";
    };

    additive = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Only add the cache (`extra-substituters`), and leave to the rest of nix.conf what else is used.
      '';
    };

    browse = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Also use a cache that announces itself, on any port and path, whatever its host is called. One of the
        name {option}`host` goes before it. Anybody on the network can announce a cache; Nix takes from
        it only what a trusted key has signed.
      '';
    };

    priority = mkOption {
      type = types.ints.unsigned;
      default = 30;
      description = ''
        The cache is asked before those with a higher number. cache.nixos.org has 40, and attic announces
        41 by itself: it would be asked last.
      '';
    };

    settings = mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.str
          ]
        )
      );
      default = { };
      example = {
        connect-timeout = 15;
        fallback = null;
        narinfo-cache-negative-ttl = 60;
      };
      description = ''
        Lines of nix.conf that hold while the cache is used, besides or instead of those that keep one
        which dies from stalling Nix; `null` drops a line. What `nix.settings` says of these holds.
      '';
    };

    override = mkOption {
      type = types.nullOr ours.override;
      default = null;
      example = "10.0.8.141:9999";
      description = ''
        Where the cache is, as `IP`, `IP:PORT` or `[IPv6]:PORT`, or `none`. Nothing else is tried then.
      '';
    };

    methods = mkOption {
      type = types.nullOr (types.listOf (types.enum allMethods));
      default = null;
      example = [
        "previous"
        "dns"
        "mdns"
      ];
      description = ''
        How the cache is looked for. `null` is everything; but later, when the network changes,
        everything except `ping` and `sweep`, so that not every visited network is swept, unless
        {option}`sweep` names one. `announced` takes {option}`browse`.
      '';
    };

    sweep = mkOption {
      type = types.listOf ours.sweep;
      default = [ ];
      example = [ "10.0.8.0/22" ];
      description = "Private networks to sweep besides this machine's own.";
    };

    sweepRate = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      description = "Probes of the sweep in a second; `null` is the program's default: 400, on Wi-Fi 128.";
    };

    sweepLimit = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "Addresses that are swept at most; `null` is the program's default, 1022.";
    };

    budget = mkOption {
      type = types.numbers.between 0.1 9;
      default = 8;
      description = "Seconds that the search at boot may take. The unit is stopped after ten.";
    };

    watch = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Decide again when the network changes, and when the cache stops answering, which is checked once
        a minute. When it is off, Nix gives up sooner on a cache that is out of reach.
      '';
    };

    verbose = mkOption {
      type = types.bool;
      default = false;
      description = "Log every step.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "More arguments; see `cache-resolver --help`.";
    };

    arguments = mkOption {
      type = types.listOf types.str;
      default = arguments;
      readOnly = true;
      internal = true;
      description = "The command line of all units, less what is each one's own.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = builtins.match "[0-9.]+" cfg.host == null;
        message = "services.cache-resolver.host: ${cfg.host} is an address; services.cache-resolver.override takes it";
      }
      {
        assertion = config.nix.enable;
        message = "services.cache-resolver: there is no Nix to tell (nix.enable is false)";
      }
      {
        assertion = cfg.upstreams != [ ] || cfg.additive;
        message = "services.cache-resolver.upstreams: empty; Nix would have nothing where the cache is not there";
      }
      {
        assertion = lib.all isSubstituter cfg.upstreams;
        message = ''
          services.cache-resolver.upstreams: ${toString (lib.filter (url: !isSubstituter url) cfg.upstreams)}
          has no scheme that Nix knows, and Nix would build from source instead; write https://…
        '';
      }
      {
        assertion = cfg.browse || !lib.elem "announced" (lib.toList cfg.methods);
        message = "services.cache-resolver.methods: announced takes services.cache-resolver.browse = true";
      }
      {
        assertion =
          !lib.any isUnsigned [
            (config.nix.settings.require-sigs or true)
            (cfg.settings.require-sigs or true)
          ]
          && !lib.any (line: builtins.match " *require-sigs *= *false *" line != null) extraLines;
        message = ''
          services.cache-resolver: with require-sigs = false whoever answers first on the network may put
          anything into the Nix store; remove it, and name the cache's key in services.cache-resolver.publicKeys
        '';
      }
    ];

    warnings =
      lib.optional (cfg.publicKeys == [ ] && !trustsOthers) ''
        services.cache-resolver.publicKeys: empty, and only the key of cache.nixos.org is trusted; Nix takes
        nothing from the cache without the key that it signs with.
      ''
      ++ lib.optional (listed != [ ]) ''
        services.cache-resolver: the configuration's list of substituters still names the cache itself
        (${toString (lib.unique listed)}); remove it. nixos-install and nixos-anywhere copy that list, and Nix
        stalls on it wherever the cache is out of reach.
      '';

    services.cache-resolver.settings = lib.mkMerge [
      (lib.genAttrs said (_: lib.mkDefault null))
      # Weaker than that; iso.nix is in between.
      { download-attempts = lib.mkIf (!cfg.watch) (lib.mkOverride 1100 2); }
    ];

    nix.settings.trusted-public-keys = cfg.publicKeys;
    # For clients, too. Before what others add here, which stays the last word. Not `include`: that is
    # an error until the file is there.
    nix.extraOptions = lib.mkBefore ''
      !include /run/cache-resolver/nix.conf
    '';

    # For `cache-resolver --dry-run --explain`.
    environment.systemPackages = [ cfg.package ];
    environment.etc."cache-resolver/${shortName}-override" = lib.mkIf (cfg.override != null) {
      text = cfg.override + "\n";
    };

    users.users.cache-resolver = {
      isSystemUser = true;
      group = "cache-resolver";
    };
    users.groups.cache-resolver = { };

    systemd.packages = [ cfg.package ];
    # NixOS does not read [Install].
    systemd.services.cache-resolver = {
      wantedBy = [
        "multi-user.target"
        "nix-daemon.service"
      ];
      serviceConfig = {
        ExecStart = start (option "budget" cfg.budget ++ methods cfg.methods);
        # The watcher sees to a network that comes late.
        SuccessExitStatus = lib.mkIf cfg.watch 75;
      };
      restartTriggers = [ (toString cfg.override) ];
    };
    systemd.services.cache-resolver-watch = {
      wantedBy = lib.optional cfg.watch "multi-user.target";
      serviceConfig.ExecStart = start ([ "--watch" ] ++ methods later);
      restartTriggers = [ (toString cfg.override) ];
    };
    systemd.paths.cache-resolver-nix.wantedBy = [ "paths.target" ];
    systemd.services.cache-resolver-nix.serviceConfig.ExecStart = [
      ""
      "${config.systemd.package}/bin/systemctl --no-block try-restart nix-daemon.service"
    ];
  };
}
