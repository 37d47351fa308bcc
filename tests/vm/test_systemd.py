"""Debian with systemd and nix-daemon, and the units as they are installed."""

import re
import time

import pytest

from debian import NIX
from vm import AS_INSTALLED, BOOT_SECONDS, IMAGES, ORDINARY, Machine, archive

UPSTREAM = "http://10.77.0.142:8080/system"  # not where a cache is looked for
CACHE = "http://10.77.0.141:9999/system"
# What the unit promises, in seconds; emulation makes everything else slow.
UNIT_TIMEOUT = 10


def serve_both(lan, binary_cache):
    """Both caches of a LAN; Nix by itself prefers the upstream."""
    _, content, _ = binary_cache
    lan.upstream.serve_cache(content, port=8080, priority=40)
    if lan.cache:
        lan.cache.serve_cache(content)


def substituters(machine):
    """What Nix says that it uses."""
    # The name until 2.19, and the one that newer ones do not warn about.
    nix = "nix --extra-experimental-features nix-command"
    said = machine.run(f"{nix} config show 2>/dev/null || {nix} show-config")
    return re.search(r"^substituters = (.*)$", said, re.MULTILINE)[1]


def check_sandbox(machine):
    """What the units may do, and what the watcher needs."""
    for unit in ("cache-resolver", "cache-resolver-watch"):
        said = machine.run(f"systemd-analyze security {unit}.service --no-pager")
        assert float(re.search(r"exposure level for .*: ([\d.]+)", said)[1]) <= 1.5, said
    status = machine.run("cat /proc/$(systemctl show -P MainPID cache-resolver-watch)/status")
    assert re.search(r"^CapEff:\s+0*2000$", status, re.MULTILINE), "CAP_NET_RAW alone"
    assert not re.search(r"^Uid:\s+0", status, re.MULTILINE)
    assert int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1]) <= 1024
    # And what the program gives up by itself.
    machine.run("echo OPTIONS=--verbose >/etc/default/cache-resolver; systemctl restart cache-resolver.service;"
                " rm /etc/default/cache-resolver")
    log = machine.journal("cache-resolver")
    assert "dns: asked" in log and "confined" not in log, log


def test_at_boot_and_what_the_plan_verifies(home, binary_cache):
    serve_both(home, binary_cache)
    machine = Machine(home)
    machine.wait_for_boot()

    # Before the daemon. Whether its path unit sees the new file before or after the daemon has read
    # it, too, is a race; it restarts an idle daemon once at most.
    log = machine.journal("cache-resolver", "nix-daemon")
    assert log.index("Finished cache-resolver.service") < log.index("Started nix-daemon.service"), log
    assert log.count("Started nix-daemon.service") <= 2
    assert "found at 10.77.0.141:9999 by dns" in log, log

    # The plan's own commands.
    assert "active (exited)" in machine.run("systemctl status cache-resolver.service")
    listing = machine.run("ls -la /run/cache-resolver/")
    for name in (r"nix\.conf", "waterbug-ip", "explain"):
        assert re.search(rf"-rw-r--r-- .* {name}$", listing, re.MULTILINE), listing
    assert "10.77.0.141:9999" in machine.run("cat /run/cache-resolver/nix.conf | grep waterbug")
    assert machine.run("cat /run/cache-resolver/waterbug-ip") == "10.77.0.141\n"
    assert substituters(machine) == f"{CACHE}?priority=30 https://cache.nixos.org"

    check_sandbox(machine)

    # Which the administrator overrides, by `systemctl edit` and as NixOS does it.
    for unit, name in (("cache-resolver", "override"), ("cache-resolver-watch", "overrides")):
        machine.run(f"cd /etc/systemd/system/{unit}.service.d && printf '[Service]\nMemoryMax=32M\n' >{name}.conf"
                    " && systemctl daemon-reload")
        assert machine.run(f"systemctl show -P MemoryMax {unit}.service") == f"{32 << 20}\n"

    # Real Nix, an ordinary user, the daemon.
    paths, _, public = binary_cache
    machine.configure(public, UPSTREAM)
    assert machine.fetch(paths[0]) == CACHE

    # Again and again: nothing that Nix reads is rewritten, nobody restarted.
    daemon = machine.run("systemctl show -P MainPID nix-daemon.service")
    stat = "cd /run/cache-resolver && stat -c '%i %y' nix.conf waterbug-ip"
    stamp = machine.run(stat)
    for _ in range(2):
        machine.run("systemctl restart cache-resolver.service")
    assert machine.run(stat) == stamp
    assert machine.run("systemctl show -P MainPID nix-daemon.service") == daemon

    # Whoever knocks at the daemon's socket starts both, in this order.
    machine.run("systemctl stop nix-daemon.service cache-resolver.service; rm /run/cache-resolver/*")
    assert machine.fetch(paths[2]) == CACHE
    log = machine.journal("cache-resolver", "nix-daemon")
    assert log.rindex("Starting cache-resolver.service") > log.index("Started nix-daemon.service"), log
    restarted = log[log.rindex("Starting cache-resolver.service"):]
    assert restarted.index("Finished cache-resolver") < restarted.index("Started nix-daemon")

    # The cache is gone: the plan's second check.
    home.cache.stop(home.cache.nginx)
    machine.run("systemctl restart cache-resolver.service")
    assert "active (exited)" in machine.run("systemctl status cache-resolver.service")
    assert UPSTREAM in machine.run(
        "cat /run/cache-resolver/nix.conf | grep -v waterbug | grep substituters")
    assert "waterbug" not in machine.run("cat /run/cache-resolver/nix.conf")
    machine.wait_for_daemon()
    assert machine.fetch(paths[1]) == UPSTREAM

    # The static configuration, for comparison.
    machine.run("sed -i '/^!include/d; s|^substituters = |&http://waterbug.lan:9999/system |'"
                " /etc/nix/nix.conf")
    assert substituters(machine) == f"http://waterbug.lan:9999/system {UPSTREAM}"


@pytest.mark.parametrize("release, systemd", [("bookworm", 252), ("sid", 262)])
def test_on_an_older_and_a_newer_system(home, away, binary_cache, release, systemd):
    serve_both(home, binary_cache)
    serve_both(away, binary_cache)
    paths, _, public = binary_cache
    machine = Machine(home, initrd=(IMAGES / f"{release}.cpio",), memory="1400M")
    machine.wait_for_boot()
    assert machine.run("systemctl --version").startswith(f"systemd {systemd} ")
    assert machine.run("nix-store --version").startswith(f"nix-store (Nix) {NIX[release]}.")

    log = machine.journal("cache-resolver", "nix-daemon")
    assert log.index("Finished cache-resolver.service") < log.index("Started nix-daemon.service"), log
    assert "found at 10.77.0.141:9999 by dns" in log, log
    assert substituters(machine) == f"{CACHE}?priority=30 https://cache.nixos.org"
    check_sandbox(machine)
    machine.configure(public, UPSTREAM)
    assert machine.fetch(paths[0]) == CACHE

    machine.move(away)
    machine.wait_for("! grep -q waterbug /run/cache-resolver/nix.conf")
    machine.wait_for_daemon()
    assert machine.fetch(paths[1]) == UPSTREAM


@pytest.mark.alone
def test_a_network_that_comes_late(home):
    home.cache.serve_cache()
    machine = Machine(home, initrd=(ORDINARY, archive(home.directory, AS_INSTALLED)), plugged=False)
    # Never: the fallback is there, and Nix does not wait for more than the unit may take.
    machine.wait_for("systemctl is-active nix-daemon.service")
    log = machine.journal("cache-resolver", "nix-daemon")
    started, finished = (float(re.search(rf"\[ *([\d.]+)\] .*: {what}", log)[1])
                         for what in ("Starting cache-resolver", "Started nix-daemon"))
    assert finished - started < UNIT_TIMEOUT + 5
    # The latter where it is systemd's patience that has ended, in a machine that is very slow.
    assert "no network (" in log or "stopped after" in log
    assert "https://cache.nixos.org" == substituters(machine)
    time.sleep(20)
    machine.set_link(True)
    machine.wait_for("grep -qs 10.77.0.141 /run/cache-resolver/waterbug-ip")
    machine.wait_for_daemon()

    # Without the watcher the unit itself tries again.
    machine.set_link(False)
    machine.run("systemctl stop cache-resolver-watch.service cache-resolver.service;"
                " cd /etc/systemd/system/cache-resolver.service.d; rm 10-watch.conf /run/cache-resolver/*;"
                " printf '[Service]\nTimeoutStartSec=60s\n' >20-patient.conf;"
                " systemctl daemon-reload; ip address flush dev ens2; systemctl restart systemd-networkd")
    machine.begin("systemctl start cache-resolver.service")
    machine.wait_for("grep -qs 'substituters = https://cache.nixos.org' /run/cache-resolver/nix.conf")
    machine.set_link(True)
    machine.wait_for("grep -qs 10.77.0.141 /run/cache-resolver/waterbug-ip")
    machine.wait_for("systemctl is-active cache-resolver.service")
    assert "status=75" in machine.journal("cache-resolver")


@pytest.mark.parametrize("append, qemu", [
    ("systemd.set_credential=cache-resolver.override:10.77.0.142:8080", ()),
    ("", ("-smbios", "type=11,value=io.systemd.credential:cache-resolver.override=10.77.0.142:8080")),
    ("", ("-fw_cfg", "name=opt/cache-resolver/override,string=10.77.0.142:8080")),
], ids=["credential", "SMBIOS", "fw_cfg"])
def test_an_order_reaches_the_unprivileged_unit(home, append, qemu):
    home.cache.serve_cache()
    home.upstream.serve_cache(port=8080)
    machine = Machine(home, append=append, qemu=qemu)
    machine.wait_for("grep -qs 10.77.0.142:8080 /run/cache-resolver/nix.conf", BOOT_SECONDS)
    log = machine.journal("cache-resolver")
    assert "by override" in log, log


def test_killed_at_its_timeout_it_leaves_the_fallback(home):
    machine = Machine(home)
    machine.wait_for_boot()
    # Without a network it would wait for a minute.
    machine.set_link(False)
    machine.run("""mkdir -p /run/systemd/system/cache-resolver.service.d
        printf '[Service]\nTimeoutStartSec=15s\nRestart=no\n' \\
            >/run/systemd/system/cache-resolver.service.d/timeout.conf
        systemctl stop cache-resolver-watch.service
        rm -f /run/cache-resolver/*
        systemctl daemon-reload
        systemctl stop systemd-networkd.socket systemd-networkd
        ip address flush dev ens2
        echo 'OPTIONS="--budget 60"' >/etc/default/cache-resolver""")
    machine.run("systemctl restart cache-resolver.service", check=False)
    # The log, for a restarted daemon may have started it again.
    log = machine.journal("cache-resolver")
    assert "Failed with result 'timeout'" in log and "stopped after" in log, log
    assert "substituters = https://cache.nixos.org" in machine.run("cat /run/cache-resolver/nix.conf")


def test_roaming(home, away, binary_cache):
    serve_both(home, binary_cache)
    serve_both(away, binary_cache)
    paths, content, public = binary_cache
    machine = Machine(home)
    machine.wait_for_boot()
    machine.configure(public, UPSTREAM)
    assert machine.fetch(paths[0]) == CACHE
    build = machine.begin(
        "setpriv --reuid=nobody --regid=nix-users --clear-groups env HOME=/tmp NIX_REMOTE=daemon nix-build --no-out-link"
        " --option substitute false -E 'derivation { name = \"slow\"; system = builtins.currentSystem;"
        " builder = \"/bin/sh\"; args = [ \"-c\" \"/bin/sleep 1000; echo done > $out\" ]; }'")
    machine.wait_for("pgrep -xf '/bin/sleep 1000'")

    machine.move(away)
    machine.wait_for("! grep -q waterbug /run/cache-resolver/nix.conf")
    machine.wait_for_daemon()
    assert machine.fetch(paths[1]) == UPSTREAM

    machine.move(home)
    machine.wait_for("grep -q waterbug /run/cache-resolver/nix.conf")
    machine.wait_for_daemon()
    assert machine.fetch(paths[2]) == CACHE

    # The build that has seen the daemon restarted twice.
    machine.run("pkill -xf '/bin/sleep 1000'")
    code, said = machine.end(build)
    assert code == 0 and "-slow" in said, said

    # The cache moves to another address.
    home.cache.stop(home.cache.nginx)
    other = home.host("other", 143)
    other.serve_cache(content)
    home.router.stop(home.router.processes[0])
    home.serve_names("10.77.0.143")
    machine.wait_for("grep -q 10.77.0.143 /run/cache-resolver/waterbug-ip")
    machine.wait_for_daemon()
    assert machine.fetch(paths[3]) == CACHE.replace("141", "143")
