"""What is measured: each scene is a network, the commands that run in it, and what must come of it.

A scene tells its `sheet` the times of its commands (`sheet.time`) and compares (`sheet.compare`): ours may be at
most `goal` times the other. Ratios are those of medians of commands that took turns.
"""

import ipaddress
import pathlib
import random
from statistics import median

from lan import NETWORK, PROGRAM, make_binary_cache, wait_until
from probe import (
    compiled, far_away, idle_cpu, instructions, measure, ours, packets, peak_memory, run_once, system_calls,
)

HOST = "waterbug.lan"
WIDE = ipaddress.ip_network("10.80.0.0/16")
# Of the addresses and the losses of a lossy link.
SEED = 1
FETCH = pathlib.Path(__file__).with_name("fetch")
# How long plain Nix is waited for where the cache is dead or away.
NIX_SECONDS = 60
# Of runs under strace or valgrind, which make everything slower and so the search longer, the least counts.
TRACED_RUNS = 12
# The most that a run which finds the cache by name may execute: where it need not ask neighbours, and where it does.
INSTRUCTIONS = {False: 275_000, True: 400_000}


def network(lan, *dns_options):
    """A cache, a router with a DNS server, and a client that asks it."""
    cache, router, client = lan.host("cache", 141), lan.host("router", 1), lan.host("client", 50)
    cache.serve_cache()
    router.serve_dns("--local=/lan/", *dns_options)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    return cache, router, client


def named(lan):
    """A network whose DNS server knows the cache: its client."""
    return network(lan, f"--host-record={HOST},{lan.network[141]}")[2]


def limit(client):
    """The words that run the least that could do it."""
    return [compiled("limit", client), HOST, "{out}-ip", "{out}-conf"]


def found_through_dns(lan, sheet):
    """By name on a LAN: against the least that could do it, and the scripts that people use. The first of them
    proves no more than an open port."""
    client, address = named(lan), lan.network[141]
    url = f"http://{address}:9999/system/nix-cache-info"
    us, least, getent, nc, dig, curl, script, script2 = sheet.time("found_through_dns", measure(
        client, 200, ours(), limit(client), ["getent", "hosts", HOST], ["nc", "-z", address, "9999"],
        ["dig", "+short", HOST], ["curl", "-s", url],
        ["sh", "-c", f"a=$(getent hosts {HOST}) && nc -z ${{a%% *}} 9999"],
        ["sh", "-c", f"curl -s http://$(dig +short {HOST}):9999/system/nix-cache-info"]))
    sheet.picture = {"cache-resolver": us, "limit": least, "getent + nc": script, "dig + curl": script2}
    # Of this 1.35 was the most before the program confined itself, which takes 60 to 75 us: seccomp(2) alone 50, in
    # which the kernel compiles the filter.
    sheet.compare("found by DNS", us.wall, "limit", least.wall, 1.6)
    sheet.compare("found by DNS", us.wall, "getent + nc", getent.wall + nc.wall, 0.28)
    sheet.compare("found by DNS", us.wall, "the same as a shell script", script.wall, 0.28)
    sheet.compare("found by DNS", us.wall, "dig + curl", dig.wall + curl.wall, 0.05)
    sheet.compare("found by DNS", us.wall, "the same as a shell script", script2.wall, 0.05)
    sheet.compare("CPU time", us.cpu, "at most", 3, 1)


def found_far_away(lan, sheet):
    """By name where everybody is 20 milliseconds away, there and back."""
    client = named(lan)
    far_away(lan, client, 10)
    us, least, script = sheet.time("found_far_away", measure(
        client, 50, ours(), limit(client), ["sh", "-c", f"a=$(getent hosts {HOST}) && nc -z ${{a%% *}} 9999"]))
    sheet.compare("found by DNS, 20 ms away", us.wall, "limit", least.wall, 1.02)
    sheet.compare("found by DNS, 20 ms away", us.wall, "getent + nc", script.wall, 1)


def found_through_mdns(lan, sheet):
    """By mDNS: against Avahi's own client with its daemon already running; then behind our own firewall."""
    cache, client = lan.host("cache", 141), lan.host("client", 50)
    cache.serve_cache()
    cache.announce_by_avahi()
    bus = client.directory / "bus"
    (client.directory / "avahi.conf").write_text(
        "[server]\nhost-name=client\nallow-interfaces=eth0\nuse-ipv6=no\n")
    (client.directory / "bus.conf").write_text(
        '<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>'
        '<policy context="default"><allow user="*"/><allow own="*"/>'
        '<allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/>'
        '<allow send_type="method_call"/><allow eavesdrop="true"/></policy></busconfig>' % bus)
    client.start("dbus-daemon", "--config-file", client.directory / "bus.conf", "--nofork")
    wait_until(bus.exists, "dbus-daemon")
    environment = ["env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}"]
    daemon = client.start("sh", "-c", "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && exec "
                          + " ".join(environment) + " avahi-daemon --no-drop-root --no-chroot"
                          f" --no-rlimits -f {client.directory}/avahi.conf")
    resolve = ["timeout", "20", *environment, "avahi-resolve", "-4", "-n", "waterbug.local"]

    def answers():
        return client.run(*resolve, check=False).returncode == 0
    wait_until(answers, "avahi", seconds=20)
    by_mdns = ours("--methods", "mdns")
    us, peer = sheet.time("found_through_mdns", measure(client, 30, by_mdns, resolve))
    sheet.compare("found by mDNS", us.wall, "avahi-resolve", peer.wall, 1 / 10)
    client.stop(daemon)
    client.drop_by_default()
    (us,) = sheet.time("found_through_mdns, a firewall that drops what nobody asked for", measure(client, 30, by_mdns))
    sheet.compare("found by mDNS behind our own firewall", us.wall, "at most", 70, 1)


def not_found(lan, sheet):
    """How long until it is clear that there is nothing."""
    cache, _, client = network(lan)
    cache.stop(cache.nginx)
    (us,) = sheet.time("not_found, a DNS server that says so", measure(client, 5, ours()))
    sheet.compare("not found", us.worst, "at most", 2200, 1)
    client.write_etc("resolv.conf", f"nameserver {lan.network[99]}\n")
    (us,) = sheet.time("not_found, a DNS server that is silent", measure(client, 5, ours()))
    sheet.compare("not found, DNS silent", us.worst, "at most", 3000, 1)


def by_ping(lan, sheet):
    """What a ping costs besides its own waiting, which is 500 ms where nobody answers, and nothing where the
    cache does."""
    cache, client = lan.host("cache", 141), lan.host("client", 50)
    cache.serve_cache()
    (us,) = sheet.time("by_ping, nobody answers", measure(client, 20, ours("--methods", "ping")))
    sheet.compare("by ping, more than its own 500 ms", us.wall - 500, "at most", 3, 1)
    cache.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0")
    (us,) = sheet.time("by_ping, the cache answers", measure(client, 50, ours("--methods", "ping")))
    sheet.compare("found by ping", us.wall, "at most", 3, 1)


def any_address(lan, sheet):
    """Nothing named, nobody answers a ping: the cache at addresses from all over a /24."""
    cache, _, client = network(lan)
    client.write_etc("resolv.conf", "")
    numbers = [number for number in range(2, 255, 9) if number not in (50, 141)]
    forgetful = ["sh", "-c", " ".join(["ip neighbour flush all; exec", *ours()])]
    walls = []
    for number in numbers:
        cache.run("ip", "address", "flush", "dev", "eth0")
        cache.add_address(lan.network[number])
        walls += measure(client, 1, forgetful)
    worst = max(walls, key=lambda times: times.wall)
    sheet.time("any_address, the slowest", [worst])
    sheet.addresses = [(number, times.wall) for number, times in zip(numbers, walls)]
    sheet.compare(f"nothing named, {len(numbers)} addresses of a /24, the slowest", worst.wall, "at most", 1200, 1)


def sweep_24(lan, sheet):
    """One cache four fifths of the way through a /24, and nothing else known. Only nmap and masscan look at the
    port, and none of them at what is behind it."""
    cache, router, client = lan.host("cache", 203), lan.host("router", 1), lan.host("client", 50)
    cache.serve_cache()
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    # masscan sends everything to a gateway.
    client.run("ip", "route", "add", "default", "via", router.address)
    fast = ("--methods", "sweep", "--sweep-rate", "20000")
    # First of all: what the peers leave behind, the kernel goes on asking for three seconds.
    sheet.compare("packets of a sweep of a /24", packets(client, *fast), "addresses", 254, 1.1)
    nmap = ["nmap", "-n", "-T5", "-p", "9999", "--open", lan.network]
    us, syn, connect, ping, arp, masscan = sheet.time("sweep_24", measure(
        client, 3, ours(*fast), [*nmap, "-sS"], [*nmap, "-sT"],
        ["fping", "-a", "-q", "-g", "-r", "0", "-t", "200", "-i", "1", lan.network],
        ["arp-scan", "-r", "1", "-B", "10M", "-t", "100", "-I", "eth0", lan.network],
        ["masscan", "-p9999", lan.network, "--rate", "20000", "--wait", "1"]))
    sheet.compare("sweep of a /24, 20000/s", us.wall, "nmap -T5, the faster", min(syn.wall, connect.wall), 1 / 20)
    sheet.compare("sweep of a /24, 20000/s", us.wall, "masscan", masscan.wall, 1 / 4)
    sheet.compare("sweep of a /24, 20000/s", us.wall, "fping (hosts only)", ping.wall, 1 / 4)
    sheet.compare("sweep of a /24, 20000/s", us.wall, "arp-scan (hosts only)", arp.wall, 1)


def sweep_16(lan, sheet):
    """One cache four fifths of the way through a /16, all of it one link."""
    cache, client = lan.host("cache", 52000), lan.host("client", 50)
    cache.serve_cache()
    fast = ("--methods", "sweep", "--sweep-rate", "50000", "--sweep-limit", "65534")
    us, arp, syn = sheet.time("sweep_16", measure(
        client, 1, ours(*fast),
        ["arp-scan", "-r", "1", "-B", "10M", "-t", "100", "-I", "eth0", lan.network],
        ["nmap", "-n", "-p", "9999", "--open", "--min-rate", "20000", "--max-retries", "0", lan.network]))
    sheet.compare("sweep of a /16, 50000/s", us.wall, "arp-scan or nmap, the faster", min(arp.wall, syn.wall), 1 / 2)
    cache.stop(cache.nginx)
    sheet.compare("its peak memory, KiB", peak_memory(client, *fast), "at most", 4096, 1)


def sent(lan, sheet):
    """What others on the network see of us."""
    client = named(lan)
    sheet.compare("packets, found by name", packets(client), "at most", 12, 1)
    client.write_etc("resolv.conf", f"nameserver {lan.network[99]}\n")
    lan.hosts[0].stop(lan.hosts[0].nginx)
    sheet.compare("packets, nothing there", packets(client), "at most", 550, 1)


def footprint(lan, sheet):
    """What it takes of the machine: found by name, and where there is nothing."""
    client = named(lan)
    sheet.compare("program, bytes", pathlib.Path(PROGRAM).stat().st_size, "at most", 147456, 1)
    sheet.compare("peak memory, found by name, KiB", peak_memory(client), "at most", 256, 1)
    calls = min(system_calls(client)["total"] for _ in range(TRACED_RUNS))
    sheet.compare("system calls, found by name", calls, "at most", 126, 1)
    has_asked, count = min(instructions(client) for _ in range(TRACED_RUNS))
    sheet.compare("instructions, found by name", count, "at most", INSTRUCTIONS[has_asked], 1)
    lan.hosts[0].stop(lan.hosts[0].nginx)
    sheet.compare("peak memory, nothing there, KiB", peak_memory(client), "at most", 256, 1)


def watcher_idle(lan, sheet):
    """A watcher where nothing happens: its CPU time in a minute, in which it asks the cache once."""
    sheet.compare("a minute of --watch, microseconds of CPU", idle_cpu(named(lan), 60), "at most", 284, 1)


def lossy(lan, sheet, methods, most, runs=200):
    """Runs over a link that loses 2 % of the frames in each direction: how often the cache was not found."""
    generator = random.Random(SEED)
    cache, client = lan.host("cache", 141), lan.host("client", 50)
    cache.serve_cache()
    far_away(lan, client, 1, loss=2, seed=SEED)
    missed = 0
    for _ in range(runs):
        address = lan.network[generator.choice([number for number in range(1, 255) if number != 50])]
        cache.run("ip", "address", "flush", "dev", "eth0")
        cache.add_address(address)
        client.run("ip", "neighbour", "flush", "all")
        client.run("ip", "route", "replace", "default", "via", address)
        run_once(client, "--methods", methods)
        missed += not (client.directory / "once/waterbug-ip").exists()
    sheet.compare(f"lossy link, by {methods}: not found in {runs} runs", missed, "at most", most, 1)


def lossy_sweep(lan, sheet):
    """By sweep, 1 ms away, where 2 % of the frames are lost in each direction; the address differs each time."""
    lossy(lan, sheet, "sweep", 2)


def lossy_gateway(lan, sheet):
    """By gateway, 1 ms away, where 2 % of the frames are lost in each direction; the address differs each time."""
    lossy(lan, sheet, "gateway", 0)


def nix(lan, sheet, state):
    """A fresh Nix fetches one path: the program and then Nix, against Nix with a static list of the same."""
    store = lan.directory / "store"
    store.mkdir()
    (path,), content, public = make_binary_cache(store)
    cache, upstream, client = lan.host("cache", 141), lan.host("upstream", 142), lan.host("client", 50)
    cache.serve_cache(content, priority=30)
    upstream.serve_cache(content, priority=40)
    url = f"http://{upstream.address}:9999/system"
    static, address = client.directory / "static.conf", cache.address
    client.write_etc("hosts", f"{address} waterbug.lan\n")
    if state == "dead":
        cache.run("ip", "link", "set", "eth0", "down")
    if state == "away":
        # At home it would be there; here a router takes what is for it, and drops it.
        address = "10.99.0.141"
        client.write_etc("hosts", "")
        cache.stop(cache.nginx)
        upstream.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        upstream.run("ip", "route", "add", "blackhole", "10.99.0.0/24")
        client.run("ip", "route", "add", "default", "via", upstream.address)
    static.write_text(f"substituters = http://{address}:9999/system {url}\n")
    ours_first = " ".join([*ours("--upstream", url), "&& exec"])
    both = ["sh", "-c", f"{ours_first} {FETCH} {{out}} {public} {{out}}/nix.conf {NIX_SECONDS} {path}"]
    plain = [FETCH, "{out}", public, static, NIX_SECONDS, path]
    us, plain = sheet.time(f"nix_{state}", measure(client, 15 if state == "alive" else 1, both, plain))
    assert us.statuses == {0}, us.statuses
    at_least = " (given up)" if plain.statuses == {124} else ""
    sheet.compare(f"Nix gets a path, the cache is {state}", us.wall, f"Nix with a static list{at_least}", plain.wall,
                  {"alive": 1.1, "dead": 0.5, "away": 0.5}[state])


def nix_alive(lan, sheet):
    """A fresh Nix fetches one path from the cache."""
    nix(lan, sheet, "alive")


def nix_dead(lan, sheet):
    """A fresh Nix fetches one path from the upstream, for nobody is at the cache's address."""
    nix(lan, sheet, "dead")


def nix_away(lan, sheet):
    """A fresh Nix fetches one path from the upstream, in a network where the cache's address leads nowhere."""
    nix(lan, sheet, "away")


def virtual_machine(lan, sheet):
    """The smallest initrd with the overlay, in QEMU's user network, emulated; the median of three boots."""
    from vm import ARCHITECTURES, Report, build_images, minimal
    build_images()
    host = lan.host("host")
    host.serve_cache()
    found = [Report(host, "lacks=hurry") for _ in range(3)]
    host.stop(host.nginx)
    none = [Report(host, "lacks=hurry") for _ in range(3)]
    assert all(report.names_cache for report in found) and all(report.is_fallback for report in none)
    sheet.compare("found as QEMU's gateway", median(r.milliseconds for r in found), "at most", 350, 1)
    sheet.compare("not found in QEMU's network", median(r.milliseconds for r in none), "at most", 4500, 1)
    sheet.compare("the boot waits", median(r.hook_milliseconds for r in found + none), "at most", 200, 1)
    for arch in ARCHITECTURES:
        sheet.compare(f"overlay, {arch}, bytes", minimal(arch)[1].stat().st_size, "at most", 98304, 1)


# Those that are timed have the machine for themselves; those that mostly wait, and are not, run at once.
ALONE = (found_through_dns, found_far_away, found_through_mdns, not_found, by_ping, any_address, sweep_24, sweep_16,
         sent, footprint, watcher_idle, nix_alive, virtual_machine)
AT_ONCE = (lossy_sweep, lossy_gateway, nix_dead, nix_away)
