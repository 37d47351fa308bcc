# A cache, a router and two that look for the cache, all NixOS: `nix build .#checks.x86_64-linux.vm`.
#
# Where tests/vm has Debian and busybox, this has what NixOS itself makes of the modules.
{ pkgs }:

pkgs.testers.runNixOSTest (
  { nodes, ... }:
  let
    # Bytes; NixOS puts it into a drop-in, overrides.conf.
    memory = 33554432;

    onlyOurLan = {
      # DHCP from our router, and no route to the world.
      virtualisation.interfaces.eth1 = {
        vlan = 1;
        assignIP = false;
      };
      networking.useDHCP = false;
      networking.interfaces.eth1.useDHCP = true;
    };

    # Serves what is under /srv, and can build a path that nobody else has.
    server = {
      services.nginx.enable = true;
      services.nginx.virtualHosts.default.root = "/srv";
      networking.firewall.allowedTCPPorts = [ 9999 ];
      services.nginx.virtualHosts.default.listen = [
        {
          addr = "0.0.0.0";
          port = 9999;
        }
      ];
      virtualisation.writableStore = true;
      nix.settings.sandbox = false;
      nix.settings.substituters = pkgs.lib.mkForce [ ];
      nix.settings.experimental-features = [ "nix-command" ];
      systemd.tmpfiles.rules = [ "d /srv 0755 root root" ];
    };

    resolving = {
      imports = [ ../../nix/waterbug.nix ];
      virtualisation.writableStore = true;
      nix.settings.substituters = pkgs.lib.mkForce [
        "http://${nodes.router.networking.primaryIPAddress}:9999/upstream"
      ];
      # Written by the test, which makes the keys.
      nix.extraOptions = "!include /run/keys.conf";
    };
  in
  {
    name = "cache-resolver";

    nodes.cache =
      { lib, ... }:
      {
        imports = [
          server
          ../../nix/announce.nix
        ];
        virtualisation.vlans = [ 1 ];
        services.cache-announce = {
          enable = true;
          path = "/system";
        };
        services.avahi = {
          hostName = "waterbug";
          allowInterfaces = [ "eth1" ];
          ipv6 = lib.mkForce false;
        };
      };

    nodes.router =
      { config, ... }:
      {
        imports = [ server ];
        virtualisation.vlans = [ 1 ];
        networking.firewall.allowedUDPPorts = [
          53
          67
        ];
        networking.firewall.allowedTCPPorts = [ 53 ];
        services.dnsmasq = {
          enable = true;
          resolveLocalQueries = false;
          settings = {
            interface = "eth1";
            bind-interfaces = true;
            no-resolv = true;
            no-hosts = true;
            local = "/lan/";
            address = "/waterbug.lan/${nodes.cache.networking.primaryIPAddress}";
            dhcp-range = "192.168.1.100,192.168.1.150,1h";
            dhcp-option = "option:router,${config.networking.primaryIPAddress}";
          };
        };
      };

    # The firewall as NixOS has it, and somebody who gives the unit more memory.
    nodes.client = {
      imports = [
        onlyOurLan
        resolving
      ];
      systemd.services.cache-resolver-watch.serviceConfig.MemoryMax = memory;
    };

    # Finds it in stage 1, where the test then has a shell.
    nodes.early =
      { config, pkgs, ... }:
      {
        imports = [
          onlyOurLan
          resolving
          ../../nix/initrd.nix
        ];
        testing.initrdBackdoor = true;
        boot.initrd = {
          cache-resolver.enable = true;
          # The static one, which is the default, takes a Rust library for musl that no public cache has.
          cache-resolver.package = config.services.cache-resolver.package;
          availableKernelModules = [ "virtio_net" ];
          systemd = {
            enable = true;
            network.enable = true;
            network.networks."10-lan" = {
              matchConfig.Name = "eth1";
              networkConfig.DHCP = "ipv4";
            };
            initrdBin = [ pkgs.gnugrep ];
          };
        };
      };

    testScript = ''
      conf = "/run/cache-resolver/nix.conf"
      found = "http://${nodes.cache.networking.primaryIPAddress}:9999/system"


      def publish(machine, name, where):
          """Builds a path that only this machine has, signs it, and serves it; gives path and key."""
          machine.succeed(f"nix-store --generate-binary-cache-key {name}-1 /root/secret /root/public")
          expression = (
              'derivation { name = "%s"; system = builtins.currentSystem;'
              ' builder = "/bin/sh"; args = [ "-c" "echo %s >$out" ]; }' % (name, name)
          )
          path = machine.succeed(f"nix-build --no-out-link -E '{expression}'").strip()
          machine.succeed(f"nix store sign --key-file /root/secret {path}")
          machine.succeed(f"nix copy --to file:///srv/{where} {path}", "chmod -R a+rX /srv")
          return path, machine.succeed("cat /root/public").strip()


      def trust(machine):
          machine.succeed(f"echo 'extra-trusted-public-keys = {key} {upstream_key}' >/run/keys.conf")
          machine.systemctl("restart nix-daemon")


      cache.start()
      router.start()
      for server in cache, router:
          server.wait_for_unit("nginx.service")
          server.wait_for_open_port(9999)
      router.wait_for_unit("dnsmasq.service")
      path, key = publish(cache, "greeting", "system")
      upstream_path, upstream_key = publish(router, "farewell", "upstream")

      with subtest("found by name, and Nix copies from it"):
          client.start()
          client.wait_for_unit("cache-resolver-watch.service")
          client.wait_until_succeeds(f"grep -F {found} {conf}", timeout=30)
          trust(client)
          said = client.succeed(f"nix-store --realise {path} 2>&1")
          assert f"from '{found}" in said, said
          client.succeed("cache-resolver --dry-run --explain >&2")

      with subtest("what the configuration says of the unit holds"):
          client.succeed("systemctl show -p MemoryMax cache-resolver-watch | grep -x MemoryMax=${toString memory}")

      with subtest("found over mDNS alone, behind the default firewall"):
          cache.wait_for_unit("avahi-daemon.service")
          client.wait_until_succeeds(f"cache-resolver --dry-run --methods mdns | grep -F {found}", timeout=30)

      with subtest("found by its announcement, under another name"):
          client.succeed(f"cache-resolver --dry-run --host hive.lan --browse --methods announced | grep -F {found}")

      with subtest("found in stage 1 already, and confirmed in stage 2"):
          early.start()
          early.wait_until_succeeds(f"grep -F {found} {conf}", timeout=60)
          early.switch_root()
          early.wait_for_unit("cache-resolver-watch.service")
          early.wait_until_succeeds(f"grep -F {found} {conf}", timeout=30)

      with subtest("the cache dies: Nix goes on with the upstream, then the file does without it"):
          cache.crash()
          said = client.succeed(f"timeout 60 nix-store --realise {upstream_path} 2>&1")
          assert ":9999/upstream" in said, said
          client.wait_until_fails(f"grep -F {found} {conf}", timeout=150)
          client.succeed(f"grep -F /upstream {conf}")
    '';
  }
)
