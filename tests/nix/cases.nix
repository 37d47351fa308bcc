# What the modules make of configurations: a list of { name, good, seen }.
#
# `evaluate` takes a list of modules and gives the configuration: NixOS's own, or that of stub.nix.
# `options` are those that it knows. `readme` are the examples of README.md.
{
  lib,
  evaluate,
  options,
  readme,
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
  equals = name: seen: expected: case name seen (seen == expected);
  ours = import ../../nix/types.nix { inherit lib; };

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
      browse = true;
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
  nixReadme = builtins.readFile ../../nix/README.md;
  undocumented = lib.filter (name: !has "| `${name}` |" nixReadme) (
    lib.filter (name: !lib.hasPrefix "_" name && name != "arguments") (
      lib.attrNames (
        options.services.cache-resolver // options.services.cache-announce // options.myModules.services.buildCache
      )
    )
  );
  # What README.md's examples make of a machine; without what they import of NixOS.
  examples = map (
    example:
    let
      module = example {
        inputs.cache-resolver.nixosModules = import ../../nix/modules.nix;
        modulesPath = "";
      };
    in
    configuration (module // { imports = lib.filter builtins.isPath module.imports; })
  ) readme;
  exampleCases = lib.imap1 (
    number: example:
    let
      keys = lib.remove "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" (
        example.nix.settings.trusted-public-keys
      );
      isHouse = number == lib.length readme;
      seen = {
        inherit keys;
        start = starts example "cache-resolver";
      };
    in
    case "README.md: example ${toString number}" seen (
      lib.length keys == 1
      && has (if isHouse then "system:" else "PUT-YOUR-KEY-HERE") (lib.head keys)
      && has (if isHouse then "waterbug.lan" else "attic.home.arpa") seen.start
      && failures example == [ ]
    )
  ) examples;
  # A host with a cache, which announces it.
  announcing =
    module:
    configuration {
      imports = [ module ];
      services.cache-announce.enable = true;
    };
  # What is wrong with an announcement.
  unannounced =
    module: lib.filter (has "services.cache-announce.") (failures (announcing module));
  portOf = module: (announcing module).services.cache-announce.port;
  harmonia = settings: {
    services.harmonia.cache.enable = true;
    services.harmonia.cache.settings = settings;
  };
  attic = {
    services.atticd.enable = true;
    services.cache-announce.path = "/system";
  };
  nginx = hosts: {
    services.nginx.enable = true;
    services.nginx.virtualHosts = hosts;
  };
  plainHost.listen = [
    {
      addr = "0.0.0.0";
      port = 8080;
    }
    {
      addr = "0.0.0.0";
      port = 8443;
      ssl = true;
    }
  ];
  told = announcing {
    services.cache-announce = {
      port = 9999;
      path = "/system";
      name = "the \"fast\" one <%h>";
      openFirewall = true;
    };
  };
  quiet = announcing (harmonia { });
  # A host that looks for announcements, when it starts, as long as it is up, and as an installer.
  browsing = configuration {
    imports = [ ../../nix/waterbug.nix ];
    services.cache-resolver.browse = true;
  };
  browsingInstaller = configuration {
    imports = [ ../../nix/kexec.nix ];
    services.cache-resolver.browse = true;
  };
  announceCases = [
    (case "browse: all the time, and nobody who does not say so" (starts browsing "cache-resolver-watch") (
      lib.all (has "--browse") [
        (starts browsing "cache-resolver")
        (starts browsing "cache-resolver-watch")
        (starts browsingInstaller "cache-resolver")
      ]
      && !has "--browse" once
      && !has "--browse" watching
      &&
        values "methods" (starts browsing "cache-resolver-watch") == [
          "previous,hosts,dns,mdns,announced,gateway,neighbours"
        ]
    ))
    (case "browse: the method alone is refused with the remedy"
      (failures (dynamicAnd { services.cache-resolver.methods = [ "announced" ]; }))
      (
        lib.any (has "browse = true") (
          failures (dynamicAnd {
            services.cache-resolver.methods = [ "announced" ];
          })
        )
        && failures (dynamicAnd {
          services.cache-resolver.browse = true;
          services.cache-resolver.methods = [ "announced" ];
        }) == [ ]
      )
    )
    (equals "announced: port, path and name, with XML's own characters escaped"
      told.services.avahi.extraServiceFiles.nix-cache
      ''
        <?xml version="1.0" standalone="no"?>
        <!DOCTYPE service-group SYSTEM "avahi-service.dtd">
        <service-group>
          <name replace-wildcards="yes">the &quot;fast&quot; one &lt;%h&gt;</name>
          <service>
            <type>_nix-cache._tcp</type>
            <port>9999</port>
            <txt-record>path=/system</txt-record>
          </service>
        </service-group>
      ''
    )
    (case "announced: by an Avahi that publishes addresses" told.services.avahi (
      lib.all (it: it) [
        told.services.avahi.enable
        told.services.avahi.publish.enable
        told.services.avahi.publish.addresses
      ]
      && failures told ++ told.warnings == [ ]
    ))
    (case "announced: the cache's port is opened where that is wanted" [ told quiet ] (
      lib.elem 9999 told.networking.firewall.allowedTCPPorts
      && !lib.elem 5000 quiet.networking.firewall.allowedTCPPorts
      && !lib.elem 5000 (announcing { }).networking.firewall.allowedTCPPorts
    ))
    (equals "announced: the port of the server that is there"
      (map portOf [
        attic
        {
          imports = [ attic ];
          services.atticd.settings.listen = "[::]:9999";
        }
        (harmonia { })
        (harmonia { bind = "0.0.0.0:5001"; })
        { services.nix-serve.enable = true; }
        {
          services.nix-serve.enable = true;
          services.nix-serve.port = 5002;
        }
        (nginx { "a".root = "/srv"; })
        (nginx { "a" = plainHost; })
        {
          imports = [
            (harmonia { })
            (nginx { "a".root = "/srv"; })
          ];
        }
        {
          imports = [
            (harmonia { bind = "127.0.0.1:5000"; })
            (nginx { "a".root = "/srv"; })
          ];
        }
      ])
      [
        8080
        9999
        5000
        5001
        5000
        5002
        80
        8080
        5000
        80
      ]
    )
    (equals "announced: what is said of the port holds"
      (portOf {
        imports = [ (harmonia { }) ];
        services.cache-announce.port = 80;
      })
      80
    )
    (case "announced: no port to be known, or several" (unannounced { }) (
      lib.all (module: lib.any (has "services.cache-announce.port") (unannounced module)) [
        { }
        (harmonia { bind = "unix:/run/harmonia.sock"; })
        (harmonia { bind = "[::1]:5000"; })
        {
          imports = [
            attic
            (harmonia { })
          ];
        }
        (nginx {
          "a" = plainHost;
          "b".root = "/srv";
        })
      ]
      && unannounced (harmonia { }) == [ ]
    ))
    (case "announced: atticd has no cache at /" (unannounced { services.atticd.enable = true; }) (
      lib.any (has "services.cache-announce.path") (unannounced {
        services.atticd.enable = true;
      })
      && unannounced attic == [ ]
    ))
    (case "not announced: as if it were not there" plain.services.avahi (
      !(plain.services.avahi.enable or false) && (plain.services.avahi.extraServiceFiles or { }) == { }
    ))
    (equals "paths that may be announced"
      (lib.filter ours.announcedPath.check [
        "/"
        "/system"
        "/a/B-c_d.e~9/"
        "/.a/..b/..."
        "/${lib.fixedWidthString 63 "x" ""}"
        "/${lib.fixedWidthString 64 "x" ""}"
        "system"
        ""
        "//"
        "/a//b"
        "/a/."
        "/../a"
        "/a%20b"
        "/a b"
        "/a#b"
        "/a?b"
        "/a&b"
        "/a\"b"
        "/a\nb"
        "/ä"
      ])
      [
        "/"
        "/system"
        "/a/B-c_d.e~9/"
        "/.a/..b/..."
        "/${lib.fixedWidthString 63 "x" ""}"
      ]
    )
  ];
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
      services.cache-resolver.browse = true;
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
        && has "--browse" (lib.last withSystemd.boot.initrd.systemd.services.cache-resolver.serviceConfig.ExecStart)
        && withSystemd.boot.initrd.systemd.services.cache-resolver.wantedBy == [ "initrd.target" ]
        && lib.any (path: has "bin/cache-resolver" "${path.source or path}") withSystemd.boot.initrd.systemd.storePaths
        && lib.any (package: has "cache-resolver-stage1" package.name) withSystemd.boot.initrd.systemd.packages
      )
    )
    (case "stage 1, script: the same" withScript.boot.initrd.network.postCommands (
      has "hive.lan" withScript.boot.initrd.network.postCommands
      && has "--browse" withScript.boot.initrd.network.postCommands
      && has "copy_bin_and_libs" withScript.boot.initrd.extraUtilsCommands
    ))
    (case "stage 1: stage 2 reads what is found" (nixConf withSystemd) (
      lib.elem include (lines withSystemd)
      && withSystemd.systemd.services ? cache-resolver
      && lib.elem include (lines withScript)
    ))
    (case "stage 1: the static program there, the ordinary one in stage 2"
      [
        withSystemd.boot.initrd.cache-resolver.package
        withSystemd.services.cache-resolver.package
      ]
      (
        withSystemd.boot.initrd.cache-resolver.package.stdenv.hostPlatform.isStatic
        && !withSystemd.services.cache-resolver.package.stdenv.hostPlatform.isStatic
        && has "-static-" (lib.last withSystemd.boot.initrd.systemd.services.cache-resolver.serviceConfig.ExecStart)
        && !has "-static-" (starts withSystemd "cache-resolver")
      )
    )
    (case "stage 1: a network is asked for" (failures withoutNetwork) (
      lib.any (has "boot.initrd.network.enable") (failures withoutNetwork)
      && !lib.any (has "boot.initrd.cache-resolver") (failures withSystemd ++ failures withScript)
    ))
  ];

  waterbug = configuration { imports = [ ../../nix/waterbug.nix ]; };
  orders = [
    "10.0.8.141"
    "10.0.8.141:1"
    "192.168.0.1:65535"
    "fd00::1"
    "[fd00::1]"
    "[2001:db8:0:0:0:0:0:1]:9999"
    "::1"
    "none"
  ];
  noOrders = [
    "waterbug.lan"
    "10.0.8.256"
    "10.0.8"
    "10.0.8.141:0"
    "10.0.8.141:65536"
    "10.0.8.141\n"
    "[10.0.8.141]:9999"
    "fe80::1"
    "fe80::1%eth0"
    "[febf::1]:9999"
    "[fd00::1"
    "fd00::1::2"
    "fd00:1:2:3:4:5:6"
    "none "
  ];
  networks = [
    "10.0.0.0/8"
    "172.16.0.0/12"
    "172.31.255.0/24"
    "192.168.0.0/16"
    "192.168.1.1/32"
  ];
  noNetworks = [
    "8.8.8.0/24"
    "100.64.0.0/10"
    "10.0.0.0/7"
    "172.32.0.0/12"
    "172.16.0.0/11"
    "192.168.0.0/15"
    "192.168.0.0/33"
    "10.0.8.0"
    "fd00::/64"
  ];
  kexec = configuration {
    imports = [ ../../nix/kexec.nix ];
    nix.settings.extra-substituters = [ "/" ];
    # As nixos-images has it.
    nix.settings.connect-timeout = 5;
  };
  settingsOf = module: values "setting" (starts (configuration module) "cache-resolver");
  upstreamsOf = module: values "upstream" (starts (dynamicAnd module) "cache-resolver");
  dynamicAnd =
    module:
    configuration {
      imports = [ module ];
      myModules.services.buildCache.enable = true;
    };
  unsigned = map (module: failures (dynamicAnd module)) [
    { nix.settings.require-sigs = false; }
    { nix.extraOptions = "require-sigs = false"; }
    { services.cache-resolver.settings.require-sigs = false; }
  ];
  keyless = map (module: (configuration module).warnings) [
    { services.cache-resolver.enable = true; }
    {
      myModules.services.buildCache.enable = true;
      myModules.services.buildCache.publicKeys = [ ];
    }
  ];
  elsewhere = configuration {
    services.cache-resolver.enable = true;
    nix.settings.trusted-public-keys = [ "k:1" ];
  };
  named = map (module: (dynamicAnd module).warnings) [
    { nix.settings.substituters = [ "http://waterbug.lan:9999/system" ]; }
    { nix.settings.extra-substituters = "https://a.cachix.org http://waterbug.local:9999/?priority=1"; }
    { nix.extraOptions = "extra-substituters = http://waterbug:9999/system/"; }
    {
      services.cache-resolver.port = 80;
      nix.settings.substituters = [ "http://waterbug.lan/system" ];
    }
  ];
  unknownScheme = failures (dynamicAnd {
    nix.settings.substituters = [ "a.cachix.org" ];
  });
  # A house that had its own module of that name: what it keeps for itself.
  house = configuration {
    imports = [
      ../../nix/waterbug.nix
      {
        options.myModules.services.buildCache = {
          enablePush = lib.mkEnableOption "pushing";
          enableBuilder = lib.mkEnableOption "building for others";
        };
      }
    ];
    myModules.services.buildCache.enablePush = true;
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
    values "upstream" once == [ "https://cache.nixos.org" ]
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
        "https://cache.nixos.org"
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
    && has "--browse" tunedOnce
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
        "https://cache.nixos.org"
        "/"
      ]
    )
  )
  (equals "nixos-images: its 5 seconds become ours" (values "setting" (starts kexec "cache-resolver")) [
    "connect-timeout=10"
    "download-attempts=3"
  ])
  (equals "an installer image: what nix.settings says holds"
    (settingsOf {
      imports = [ ../../nix/kexec.nix ];
      nix.settings.connect-timeout = 20;
      nix.settings.download-attempts = 7;
    })
    [
      "connect-timeout="
      "download-attempts="
    ]
  )
  (equals "what nix.settings says holds: ours is dropped"
    (settingsOf {
      services.cache-resolver.enable = true;
      services.cache-resolver.watch = false;
      nix.settings.connect-timeout = 7;
      nix.settings.fallback = false;
      nix.settings.filetransfer-retry-attempts = 7;
      nix.settings.stalled-download-timeout = 60;
    })
    [
      "connect-timeout="
      "download-attempts="
      "fallback="
      "stalled-download-timeout="
    ]
  )
  (equals "what services.cache-resolver.settings says holds in any case"
    (settingsOf {
      services.cache-resolver.enable = true;
      services.cache-resolver.settings.connect-timeout = 15;
      services.cache-resolver.settings.narinfo-cache-negative-ttl = 60;
      nix.settings.connect-timeout = 7;
    })
    [
      "connect-timeout=15"
      "narinfo-cache-negative-ttl=60"
    ]
  )
  (case "nix/README.md: for houses that push and pull within the hour" nixReadme (
    has "services.cache-resolver.settings.narinfo-cache-negative-ttl = 60;" nixReadme
  ))
  (case "the program is on the PATH, where it is wanted"
    plain.environment.systemPackages
    (
      lib.elem plain.services.cache-resolver.package plain.environment.systemPackages
      && !lib.any (package: has "cache-resolver" "${package}") disabled.environment.systemPackages
    )
  )
  (case "unsigned paths are refused" unsigned (
    lib.all (lib.any (has "require-sigs = false")) unsigned && !lib.any (has "require-sigs") (failures tuned)
  ))
  (case "no key is worth a warning, unless it is trusted elsewhere" (keyless ++ [ elsewhere.warnings ]) (
    lib.all (lib.any (has "services.cache-resolver.publicKeys: empty")) keyless && elsewhere.warnings == [ ]
  ))
  (case "a list that names the cache itself is worth a warning" named (
    lib.all (lib.any (has "still names the cache itself")) named && plain.warnings == [ ]
  ))
  (equals "one spelling for each upstream"
    (upstreamsOf {
      nix.settings.substituters = [
        "https://a.cachix.org/"
        "https://a.cachix.org:443"
        "https://cache.nixos.org"
        "http://b.example:80/x/"
        "http://b.example/x"
        "http://b.example:443/x?priority=3"
        "http://[fd00::80]:80/?priority=3"
        "s3://bucket/"
        "daemon"
      ];
    })
    [
      "https://a.cachix.org"
      "https://cache.nixos.org"
      "http://b.example/x"
      "http://b.example:443/x?priority=3"
      "http://[fd00::80]?priority=3"
      "s3://bucket/"
      "daemon"
    ]
  )
  (equals "upstreams that Nix knows, and others"
    (lib.filter ours.isSubstituter [
      "cache.nixos.org"
      "/srv/cache"
      "auto"
      "daemon?trusted=1"
      "ftp://a.example"
      "http:///nowhere"
      "s3://bucket"
      "ssh-ng://builder"
    ])
    [
      "/srv/cache"
      "auto"
      "daemon?trusted=1"
      "s3://bucket"
      "ssh-ng://builder"
    ]
  )
  (case "an upstream without a scheme is refused" unknownScheme (
    lib.any (has "has no scheme that Nix knows") unknownScheme
  ))
  (equals "orders of every form" (lib.filter (order: !ours.override.check order) orders) [ ])
  (equals "no orders" (lib.filter ours.override.check noOrders) [ ])
  (equals "networks of every private range" (lib.filter (network: !ours.sweep.check network) networks) [ ])
  (equals "networks that are none, or not private" (lib.filter ours.sweep.check noNetworks) [ ])
  (case "waterbug: to import it is all" (starts waterbug "cache-resolver") (
    starts waterbug "cache-resolver" == once && nixConf waterbug == nixConf plain
  ))
  (case "a house's own options stay beside ours" house.myModules.services.buildCache (
    house.myModules.services.buildCache.enablePush && starts house "cache-resolver" == once
  ))
  (case "every option stands in nix/README.md" undocumented (undocumented == [ ]))
]
++ exampleCases
++ announceCases
++ lib.optionals (options ? boot) (
  stage1Cases
  ++ [
    (case "announced: who asks gets through" quiet.networking.firewall.allowedUDPPorts (
      lib.elem 5353 quiet.networking.firewall.allowedUDPPorts
    ))
  ]
)
