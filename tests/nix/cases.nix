# What the modules make of configurations: a list of { name, good, seen }.
#
# `evaluate` takes a list of modules and gives the configuration: NixOS's own, or that of stub.nix.
# `options` are those that it knows.
{
  lib,
  evaluate,
  options,
}:

let
  configuration = module: evaluate [ module ];
  dynamic = settings: configuration { myModules.services.buildCache = { enable = true; } // settings; };
  nixConf = config: config.environment.etc."nix/nix.conf".source.text;
  lines = config: lib.splitString "\n" (nixConf config);
  starts = config: name: lib.last config.systemd.services.${name}.serviceConfig.ExecStart;
  failures = config: map (failed: failed.message) (lib.filter (it: !it.assertion) config.assertions);

  include = "!include /run/cache-resolver/nix.conf";
  has = text: lib.hasInfix text;
  # The words after each `--name`.
  values =
    name: command:
    let
      words = lib.filter lib.isString (builtins.split " " command);
      pairs = lib.zipLists words (lib.drop 1 words);
    in
    map (pair: lib.removeSuffix "\"" (lib.removePrefix "\"" pair.snd)) (
      lib.filter (pair: lib.elem pair.fst [ "--${name}" "\"--${name}\"" ]) pairs
    );

  case = name: seen: good: { inherit name seen good; };

  plain = dynamic { };
  static = dynamic { dynamicResolution = false; };
  disabled = dynamic { enable = false; };
  cachix = configuration {
    myModules.services.buildCache.enable = true;
    nix.settings.substituters = [
      "https://a.cachix.org"
      "http://waterbug.lan:9999/system"
    ];
    nix.settings.extra-substituters = "https://b.cachix.org https://c.cachix.org";
    nix.extraOptions = "extra-substituters = https://d.cachix.org";
  };
  second = dynamic {
    serverUrl = "http://hive.example:8080";
    cacheName = "other";
    publicKeys = [ "other:AAAA=" ];
  };
  tuned = configuration {
    services.cache-resolver = {
      enable = true;
      publicKeys = [ "k:1" ];
      additive = true;
      priority = 10;
      settings = {
        connect-timeout = 15;
        fallback = null;
        builders-use-substitutes = true;
      };
      override = "10.0.8.141:9999";
      methods = [
        "dns"
        "mdns"
      ];
      sweep = [ "10.0.8.0/22" ];
      sweepRate = 64;
      sweepLimit = 100;
      budget = 2.5;
      watch = false;
      verbose = true;
      extraArgs = [ "--explain" ];
    };
  };
  readme = builtins.readFile ../../nix/README.md;
  undocumented = lib.filter (name: !has "| `${name}` |" readme) (
    lib.filter (name: !lib.hasPrefix "_" name && name != "arguments") (
      lib.attrNames (options.services.cache-resolver // options.myModules.services.buildCache)
    )
  );
  # Stages 1 are NixOS's own; stub.nix has none.
  inStage1 =
    module:
    configuration {
      imports = [
        ../../nix/initrd.nix
        module
      ];
      boot.isContainer = lib.mkForce false;
      boot.initrd.cache-resolver.enable = true;
      services.cache-resolver.host = "hive.lan";
    };
  withSystemd = inStage1 {
    boot.initrd.systemd.enable = true;
    boot.initrd.systemd.network.enable = true;
  };
  withScript = inStage1 {
    boot.initrd.systemd.enable = false;
    boot.initrd.network.enable = true;
  };
  withoutNetwork = inStage1 { boot.initrd.systemd.enable = true; };
  stage1Cases = [
    (case "stage 1, systemd: the service, and the program in the initrd"
      withSystemd.boot.initrd.systemd.services.cache-resolver
      (
        has "hive.lan" (lib.last withSystemd.boot.initrd.systemd.services.cache-resolver.serviceConfig.ExecStart)
        && withSystemd.boot.initrd.systemd.services.cache-resolver.wantedBy == [ "initrd.target" ]
        && lib.any (path: has "bin/cache-resolver" (toString path)) withSystemd.boot.initrd.systemd.storePaths
        && lib.any (package: has "cache-resolver-stage1" package.name) withSystemd.boot.initrd.systemd.packages
      )
    )
    (case "stage 1, script: the same" withScript.boot.initrd.network.postCommands (
      has "hive.lan" withScript.boot.initrd.network.postCommands
      && has "copy_bin_and_libs" withScript.boot.initrd.extraUtilsCommands
    ))
    (case "stage 1: a network is asked for" (failures withoutNetwork) (
      lib.any (has "boot.initrd.network.enable") (failures withoutNetwork)
      && !lib.any (has "boot.initrd.cache-resolver") (failures withSystemd ++ failures withScript)
    ))
  ];

  kexec = configuration {
    imports = [ ../../nix/kexec.nix ];
    nix.settings.extra-substituters = [ "/" ];
  };
  once = starts plain "cache-resolver";
  watching = starts plain "cache-resolver-watch";
  tunedOnce = starts tuned "cache-resolver";
in
[
  (case "dynamic: nix.conf includes the file, before what others add"
    (nixConf plain)
    (lib.elem include (lines plain))
  )
  (case "dynamic: cache.nixos.org is the upstream" once (
    values "upstream" once == [ "https://cache.nixos.org/" ]
  ))
  (case "dynamic: his key and that of cache.nixos.org" (nixConf plain) (
    has "system:oio0pk/Mlb/DR3s1b78tHHmOclp82OkQrYOTRlaqays=" (nixConf plain)
    && has "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" (nixConf plain)
  ))
  (case "dynamic: no name of the cache in the static part" (nixConf plain) (
    !has "waterbug" (nixConf plain)
  ))
  (case "dynamic: where it is looked for" once (
    values "host" once == [ "waterbug.lan" ]
    && values "port" once == [ "9999" ]
    && values "path" once == [ "/system" ]
    && values "methods" once == [ ]
  ))
  (case "dynamic: the watcher neither pings nor sweeps" watching (
    values "methods" watching == [ "previous,hosts,dns,mdns,gateway,neighbours" ] && has "--watch" watching
  ))
  (case "dynamic: started at boot and with the daemon"
    plain.systemd.services.cache-resolver.wantedBy
    (
      lib.all (unit: lib.elem unit plain.systemd.services.cache-resolver.wantedBy) [
        "multi-user.target"
        "nix-daemon.service"
      ]
      && plain.systemd.services.cache-resolver-watch.wantedBy == [ "multi-user.target" ]
      && plain.systemd.paths.cache-resolver-nix.wantedBy == [ "paths.target" ]
    )
  )
  (case "dynamic: a user of its own" plain.users.users.cache-resolver.isSystemUser
    plain.users.users.cache-resolver.isSystemUser
  )
  (case "dynamic: nothing to complain about" (failures plain ++ plain.warnings) (
    failures plain ++ plain.warnings == [ ]
  ))

  (case "static: the URL, with a priority that puts it first" (nixConf static) (
    lib.any (
      line: line == "substituters = http://waterbug.lan:9999/system?priority=30 https://cache.nixos.org/"
    ) (lines static)
  ))
  (case "static: no include, no units" (nixConf static) (
    !has "!include" (nixConf static) && !static.systemd.services ? cache-resolver
  ))
  (case "static: the key" (nixConf static) (has "system:oio0pk" (nixConf static)))

  (case "disabled: as if it were not there" (nixConf disabled) (
    !has "system:oio0pk" (nixConf disabled)
    && !has include (nixConf disabled)
    && !disabled.systemd.services ? cache-resolver
    && !disabled.users.users ? cache-resolver
  ))

  (case "cachix: every entry is an upstream, but not the cache itself"
    (starts cachix "cache-resolver")
    (
      values "upstream" (starts cachix "cache-resolver") == [
        "https://a.cachix.org"
        "https://cache.nixos.org/"
        "https://b.cachix.org"
        "https://c.cachix.org"
      ]
    )
  )
  (case "cachix: what is added in text comes after the include" (nixConf cachix) (
    has "${include}\n\nextra-substituters = https://d.cachix.org" (nixConf cachix)
    || has "${include}\nextra-substituters = https://d.cachix.org" (nixConf cachix)
  ))

  (case "a second cache: name, port, path, key" (starts second "cache-resolver") (
    values "host" (starts second "cache-resolver") == [ "hive.example" ]
    && values "port" (starts second "cache-resolver") == [ "8080" ]
    && values "path" (starts second "cache-resolver") == [ "/other" ]
    && has "other:AAAA=" (nixConf second)
    && !has "system:oio0pk" (nixConf second)
  ))

  (case "tuned: every option arrives" tunedOnce (
    has "--additive" tunedOnce
    && values "priority" tunedOnce == [ "10" ]
    && values "setting" tunedOnce == [
      "builders-use-substitutes=true"
      "connect-timeout=15"
      "download-attempts=2"
      "fallback="
    ]
    && values "methods" tunedOnce == [ "dns,mdns" ]
    && values "sweep" tunedOnce == [ "10.0.8.0/22" ]
    && values "sweep-rate" tunedOnce == [ "64" ]
    && values "sweep-limit" tunedOnce == [ "100" ]
    && lib.hasPrefix "2.5" (lib.head (values "budget" tunedOnce))
    && has "--verbose" tunedOnce
    && has "--explain" tunedOnce
    && has "k:1" (nixConf tuned)
  ))
  (case "tuned: the override is a file"
    tuned.environment.etc."cache-resolver/waterbug-override".text
    (tuned.environment.etc."cache-resolver/waterbug-override".text == "10.0.8.141:9999\n")
  )
  (case "tuned: no watcher" tuned.systemd.services.cache-resolver-watch.wantedBy (
    tuned.systemd.services.cache-resolver-watch.wantedBy == [ ]
  ))

  (case "an address for a name is refused with the remedy"
    (failures (dynamic { serverUrl = "http://10.0.0.1:9999"; }))
    (
      lib.any (has "services.cache-resolver.override takes it") (
        failures (dynamic { serverUrl = "http://10.0.0.1:9999"; })
      )
    )
  )
  (case "https cannot be found by asking around"
    (failures (dynamic { serverUrl = "https://waterbug.lan"; }))
    (
      lib.any (has "dynamicResolution = false") (failures (dynamic {
        serverUrl = "https://waterbug.lan";
      }))
    )
  )
  (case "nothing but the cache is worth a warning"
    (configuration {
      myModules.services.buildCache.enable = true;
      nix.settings.substituters = lib.mkForce [ "https://a.cachix.org" ];
    }).warnings
    (
      lib.any (has "does not list https://cache.nixos.org")
        (configuration {
          myModules.services.buildCache.enable = true;
          nix.settings.substituters = lib.mkForce [ "https://a.cachix.org" ];
        }).warnings
    )
  )

  (case "an installer image: no watcher, the upstream asked thrice, its own store kept"
    (starts kexec "cache-resolver")
    (
      kexec.systemd.services.cache-resolver-watch.wantedBy == [ ]
      && lib.elem "download-attempts=3" (values "setting" (starts kexec "cache-resolver"))
      && values "upstream" (starts kexec "cache-resolver") == [
        "https://cache.nixos.org/"
        "/"
      ]
    )
  )
  (case "every option stands in nix/README.md" undocumented (undocumented == [ ]))
]
++ lib.optionals (options ? boot) stage1Cases
