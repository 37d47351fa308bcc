"""Found where no name leads: gateway, neighbours, ping, sweep; and what is never sent."""

import json
import os
import random
import time

import pytest

from lan import PROGRAM
from test_names import FALLBACK, assert_found, assert_not_found

pytestmark = pytest.mark.alone

NOBODY = 65534
WEAK = ("--methods", "gateway,neighbours,ping,sweep")
SEED = int(os.environ.get("CACHE_RESOLVER_SEED", time.time()))


@pytest.fixture
def client(lan):
    """The host that looks for the cache, without a DNS server."""
    return lan.host("client", 50)


@pytest.fixture
def somewhere(lan):
    """A cache at an address that the printed seed decides."""
    print("CACHE_RESOLVER_SEED =", SEED)
    number = random.Random(SEED).choice([n for n in range(1, 255) if n != 50])
    host = lan.host("cache", number)
    host.serve_cache()
    return host


def with_net_raw(host, *options):
    """Runs the program as nobody, with CAP_NET_RAW and nothing else."""
    directory = host.directory / "out"
    directory.mkdir(exist_ok=True)
    os.chown(directory, NOBODY, NOBODY)
    return host.run(
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw",
        PROGRAM, "--output-dir", directory, *options)


def test_sweep_by_default(somewhere, client):
    """Nothing is known but the network itself: found all the same, and soon."""
    result = client.resolve()
    assert_found(result, somewhere, "sweep")
    assert result.seconds < 3.3
    assert result.status == 0


def test_sweep_with_net_raw_alone(somewhere, client):
    before = client.packets_sent()
    log = with_net_raw(client, "--methods", "sweep", "--explain", "--verbose", "--sweep-rate", "1000")
    assert "by ARP" in log.stdout and f"found at {somewhere.address}" in log.stdout
    assert client.packets_sent() - before < 270


def test_sweep_without_privilege(somewhere, client):
    result = client.resolve(user=NOBODY)
    assert_found(result, somewhere, "sweep")
    assert result.log.count("needs CAP_NET_RAW") == 1, "said once"
    assert result.seconds < 3.5


def test_five_addresses_in_one_network(lan, client):
    """It is swept once, and we do not ask ourselves."""
    for number in range(51, 55):
        client.add_address(lan.network[number])
    cache = lan.host("cache", 250)
    cache.serve_cache()
    result = client.resolve("--methods", "sweep", "--explain", "--verbose")
    assert_found(result, cache, "sweep")
    assert "asking 249 addresses by ARP" in result.stdout


def test_gateway(lan, client):
    cache = lan.host("cache", 2)
    cache.serve_cache()
    client.run("ip", "route", "add", "default", "via", cache.address)
    result = client.resolve("--methods", "gateway,sweep")
    assert_found(result, cache, "gateway")
    assert result.seconds < 0.5


def test_one_gateway_of_several(lan, client):
    router, cache = lan.host("router", 1), lan.host("cache", 2)
    cache.serve_cache()
    client.run("ip", "route", "add", "default",
               "nexthop", "via", router.address, "nexthop", "via", cache.address)
    assert_found(client.resolve("--methods", "gateway"), cache, "gateway")


def test_neighbours(somewhere, client):
    client.run("nc", "-z", "-w1", somewhere.address, "1", check=False)  # they meet
    assert_found(client.resolve("--methods", "neighbours", user=NOBODY), somewhere, "neighbours")


@pytest.mark.parametrize("firewall", [False, True])
def test_ping(somewhere, client, firewall):
    """The answer to a broadcast is of no known connection: a firewall drops it."""
    somewhere.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0")
    client.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 65534")
    if firewall:
        client.drop_by_default()
        # The ping socket hears nothing now; the packet socket does.
        result = client.resolve("--methods", "ping", user=NOBODY)
        assert_not_found(result, 1)
    assert_found(client.resolve("--methods", "ping"), somewhere, "ping")


def test_ping_over_ipv6(lan):
    """All nodes answer ff02::1, with an address that is of no use to Nix."""
    cache, client = lan.host("cache", ipv6=True), lan.host("client", 50, ipv6=True)
    cache.serve_cache()
    result = client.resolve("--methods", "ping")
    assert_not_found(result, 5)
    assert "link-local address, which Nix cannot use" in result.log


def test_mdns_of_a_neighbour_without_privilege(somewhere, client):
    """A question to one host: the firewall lets its answer in."""
    somewhere.stop(somewhere.nginx)
    real = somewhere.lan.host("real", 222 if somewhere.address != "10.77.0.222" else 223)
    real.serve_cache()
    client.run("nc", "-z", "-w1", somewhere.address, "1", check=False)  # they meet
    client.drop_by_default()
    somewhere.start("/usr/bin/python3", "-c", RESPONDER.replace("ADDRESS", real.address))
    somewhere.wait_for_port(5353, "u")
    result = client.resolve("--methods", "mdns,neighbours", user=NOBODY)
    assert_found(result, real, "mdns")


RESPONDER = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 5353))
while True:
    query, peer = s.recvfrom(2000)
    name = b'\\x08waterbug\\x05local\\0'
    record = name + struct.pack('>HHIH', 1, 1, 60, 4) + socket.inet_aton('ADDRESS')
    s.sendto(query[:2] + b'\\x84\\0' + b'\\0\\0\\0\\1\\0\\0\\0\\0' + record, peer)
"""


def test_many_ports_and_one_cache(lan, client):
    """Forty web servers and tarpits, one of all a cache."""
    cache = lan.host("cache", 200)
    cache.serve_cache()
    crowd = lan.host("crowd", 10)
    for number in range(11, 50):
        crowd.add_address(lan.network[number])
    crowd.start("/usr/bin/python3", "-c", (
        "import socket, threading, time\n"
        "def tarpit(port):\n"
        "    s = socket.create_server(('0.0.0.0', port), backlog=200); held = []\n"
        "    while True: held.append(s.accept())\n"
        "tarpit(9999)\n"))
    crowd.wait_for_port(9999, "t")
    for user in (None, NOBODY):
        result = client.resolve("--methods", "sweep", "--sweep-rate", "2000", user=user)
        assert_found(result, cache, "sweep")
        assert result.seconds < 2


NOISE = """
import socket, struct, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
own = s.getsockname()[4]
def frame(sender, tag=b'', cut=28):
    arp = struct.pack('>HHBBH', 1, 0x800, 6, 4, 2) + own + socket.inet_aton(sender)
    arp = (arp + own + socket.inet_aton(sender))[:cut]
    return b'\\xff' * 6 + own + tag + b'\\x08\\x06' + arp
while True:
    for number in range(1, 255, 7):
        s.send(frame(f'10.77.0.{number}', tag=b'\\x81\\0\\0\\x07'))
        s.send(frame(f'10.77.0.{number}', cut=number % 28))
    s.send(frame('203.0.113.9'))
    s.send(frame('10.78.0.9'))
    s.send(frame('255.255.255.255'))
    time.sleep(0.01)
"""


def test_arp_noise(lan, somewhere, client):
    """Gratuitous, malformed, in another VLAN, of addresses that nobody asked for."""
    lan.host("noise").start("/usr/bin/python3", "-c", NOISE)
    time.sleep(0.2)
    result = client.resolve("--methods", "sweep", "--sweep-rate", "1000", "--explain", "--verbose")
    assert_found(result, somewhere, "sweep")
    assert "203.0.113.9" not in result.stdout and "10.78.0.9" not in result.stdout


@pytest.mark.parametrize("user,packets", [(None, 550), (NOBODY, 3 * 253 + 30)])
def test_nothing_there_is_known_soon(client, user, packets):
    """Without privilege the kernel asks for each dead address three times, a second apart."""
    before = client.packets_sent()
    result = client.resolve(user=user)
    assert_not_found(result, 2.5)
    time.sleep(3.5)
    assert 250 < client.packets_sent() - before <= packets


def test_a_name_costs_twelve_packets(lan):
    cache, router = lan.host("cache", 141), lan.host("router", 1)
    client = lan.host("client", 50, ipv6=True)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    cache.serve_cache()
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    time.sleep(1.5)  # IPv6 has introduced itself
    before = client.packets_sent()
    assert_found(client.resolve(), cache, "dns")
    time.sleep(0.3)
    assert client.packets_sent() - before <= 12


@pytest.mark.parametrize("user", [None, NOBODY])
@pytest.mark.parametrize("address", [
    "203.0.113.5/24", "100.64.0.5/10", "169.254.7.5/16", "10.0.0.5/7", "192.0.2.5/24"])
def test_nothing_is_sent_into_networks_that_are_not_ours(lan, address, user):
    client = lan.host("client")
    client.run("ip", "address", "add", address, "brd", "+", "dev", "eth0")
    time.sleep(0.2)
    before = client.packets_sent()
    result = client.resolve(*WEAK, "--budget", "3", user=user, check=False)
    assert client.packets_sent() == before, result.log
    assert result.nix_conf == FALLBACK


@pytest.mark.parametrize("kind", ["tun", "tap", "bridge", "point-to-point"])
def test_nothing_is_sent_into_tunnels_and_container_bridges(lan, kind):
    client = lan.host("client", 50)
    name = "odd0"
    if kind in ("tun", "tap"):
        # A process that holds it gives it a carrier.
        client.start("/usr/bin/python3", "-c", (
            "import fcntl, os, struct, time\n"
            "f = os.open('/dev/net/tun', os.O_RDWR)\n"
            f"fcntl.ioctl(f, 0x400454ca, struct.pack('16sH', b'{name}', {1 if kind == 'tun' else 2} | 0x1000))\n"
            "time.sleep(100)\n"))
        time.sleep(0.5)
    elif kind == "bridge":
        client.run("ip", "link", "add", name, "type", "bridge", "mcast_snooping", "0")
        client.run("ip", "link", "add", "port", "type", "veth", "peer", "name", "eth1")
        client.run("ip", "link", "set", "port", "master", name)
        for interface in ("port", "eth1"):
            client.run("ip", "link", "set", interface, "up")
    else:
        client.run("ip", "link", "add", name, "type", "veth", "peer", "name", "far")
        client.run("ip", "link", "set", "far", "up")
        client.run("ip", "link", "set", name, "arp", "off")
    client.run("ip", "link", "set", name, "up")
    client.run("ip", "address", "add", "10.99.0.5/24", "brd", "+", "dev", name)
    time.sleep(0.3)
    before = client.packets_sent(name)
    result = client.resolve(*WEAK, "--sweep-rate", "2000")
    assert client.packets_sent(name) == before, result.log
    assert client.packets_sent("eth0") > 200, "the LAN beside it is swept"


def test_nothing_is_sent_off_link(lan, client):
    """A default route, and a private network behind it: not ours to sweep."""
    router = lan.host("router", 1)
    client.run("ip", "route", "add", "default", "via", router.address)
    client.run("ip", "route", "add", "192.168.0.0/16", "via", router.address)
    client.run("nft", "-f", "-", input="""table ip count { chain output {
        type filter hook output priority 0
        ip daddr != { 10.77.0.0/24, 224.0.0.0/4, 127.0.0.0/8 } counter
        }
        }
        """)
    client.resolve("--sweep-rate", "2000")
    assert "packets 0 bytes 0" in client.run("nft", "list", "ruleset").stdout
    client.resolve("--sweep-rate", "2000", "--sweep", "192.168.9.0/28")
    assert "packets 0 bytes 0" not in client.run("nft", "list", "ruleset").stdout, "named: asked"


@pytest.mark.parametrize("prefix_length,seen", [(31, False), (30, True)])
def test_a_point_to_point_network_has_no_broadcast_address(lan, prefix_length, seen):
    client = lan.host("client")
    client.run("ip", "address", "add", f"10.77.0.0/{prefix_length}", "dev", "eth0")
    client.run("ip", "route", "add", "10.77.0.0/24", "dev", "eth0")
    client.run("nft", "-f", "-", input="""table ip count { chain output {
        type filter hook output priority 0
        ip protocol icmp counter
        }
        }
        """)
    client.resolve("--methods", "ping")
    assert ("packets 0 bytes 0" not in client.run("nft", "list", "ruleset").stdout) == seen


def test_a_large_network_is_swept_in_part(lan):
    client = lan.host("client")
    client.run("ip", "address", "add", "10.200.0.5/8", "brd", "+", "dev", "eth0")
    before = client.packets_sent()
    result = client.resolve("--methods", "sweep", "--sweep-rate", "5000", "--explain", "--verbose")
    assert "asked 1,022 addresses" in result.stdout
    assert 2000 < client.packets_sent() - before < 2100, "each of them twice"


def test_a_sweep_goes_on_past_a_thousand_dead_addresses(lan):
    """Without privilege each of them is connected to, and here fails at once."""
    cache, client = lan.host("cache", 141), lan.host("client")
    cache.serve_cache()
    cache.run("ip", "address", "add", "10.200.6.1/32", "dev", "eth0")
    client.run("ip", "address", "add", "10.77.0.50/32", "dev", "eth0")
    client.run("ip", "route", "add", "10.77.0.0/24", "dev", "eth0")
    client.run("ip", "route", "add", "10.200.6.1/32", "dev", "eth0")
    client.run("ip", "route", "add", "unreachable", "10.200.0.0/21")
    result = client.resolve(
        "--methods", "sweep", "--sweep", "10.200.0.0/21", "--sweep-limit", "2046",
        "--sweep-rate", "2000", user=NOBODY)
    assert result.address == "10.200.6.1", result.log


def test_two_interfaces_in_the_same_network(lan, somewhere, client):
    client.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "nobody")
    for interface in ("eth1", "nobody"):
        client.run("ip", "link", "set", interface, "up")
    client.run("ip", "address", "add", "10.77.0.51/24", "dev", "eth1", "noprefixroute")
    assert_found(client.resolve("--methods", "sweep", "--sweep-rate", "2000"), somewhere, "sweep")


def test_an_interface_vanishes_during_the_sweep(client):
    process = client.start(PROGRAM, "--output-dir", client.directory / "out", "--methods", "sweep",
                           "--budget", "3")
    time.sleep(0.7)
    client.run("ip", "link", "del", "eth0")
    assert process.wait(4) == 75
    assert (client.directory / "out/nix.conf").read_text() == FALLBACK


@pytest.mark.parametrize("seconds,status", [(9.5, 75), (2, 0)])
def test_the_network_comes_late_and_nothing_is_there(lan, seconds, status):
    client = lan.host("client", 50, plugged=False)
    started = time.monotonic()
    process = client.start(PROGRAM, "--output-dir", client.directory / "out")
    time.sleep(seconds)
    client.plug()
    assert process.wait(12) == status
    assert (client.directory / "out/nix.conf").read_text() == FALLBACK
    assert time.monotonic() - started < 10.3


def test_explain_tells_the_whole_story(somewhere, client):
    text = client.resolve("--explain", "--verbose").stdout
    for part in ("sweep: asking 253 addresses by ARP", "mdns: asked on eth0 over IPv4", f"sweep: {somewhere.address}:9999 is a candidate",
                 "verified: a Nix cache", "sweep: asked ", "sweep: chosen", "found at", "by sweep"):
        assert part in text, text
    report = json.loads(client.resolve("--json", "--dry-run").stdout)
    assert report["origin"] in ("sweep", "previous") and report["timeline"]


def test_a_rejected_connection_is_no_work(lan, client):
    """The kernel says that the socket is ready as long as nobody asks it why."""
    client.write_etc("hosts", f"127.0.0.1 localhost\n{lan.network[141]} waterbug.lan\n")
    for kind in "", "with icmpx host-unreachable", "with icmpx admin-prohibited", "with tcp reset":
        client.run("nft", "-f", "-", input=f"flush ruleset; table inet f {{ chain output {{ type filter hook output"
                   f" priority 0; tcp dport 9999 reject {kind}\n}}\n}}\n")
        trace = client.directory / "strace"
        client.run("strace", "-o", trace, "-e", "trace=ppoll", PROGRAM, "--output-dir", client.directory / "out",
                   "--methods", "hosts", "--budget", "1")
        assert trace.read_text().count("ppoll(") < 20, kind


def test_a_rejection_that_passes(somewhere, client):
    """As of a firewall that is not yet open."""
    client.write_etc("hosts", f"127.0.0.1 localhost\n{somewhere.address} waterbug.lan\n")
    client.run("nft", "-f", "-", input="table inet f { chain output { type filter hook output priority 0;"
               " tcp dport 9999 limit rate 1/hour burst 1 packets reject\n}\n}\n")
    assert_found(client.resolve("--methods", "hosts"), somewhere, "hosts")


@pytest.mark.parametrize("crowd", ["routes of others", "neighbours"])
def test_no_crowd_hides_the_gateway(lan, client, crowd):
    """As many as a router has, or a host of containers; the default route comes after them."""
    gateway = lan.host("gateway", 1)
    gateway.serve_cache()
    client.run("ip", "route", "add", "default", "via", gateway.address)
    if crowd == "neighbours":
        client.run("ip", "-batch", "-", input="".join(
            f"neigh add 10.{number >> 8 | 128}.{number & 255}.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0\n"
            for number in range(9000)))
    else:
        client.run("ip", "-batch", "-", input="".join(
            f"route add 16.{number >> 8}.{number & 255}.0/24 dev eth0 table 100\n" for number in range(60000)))
    assert_found(client.resolve("--methods", "gateway"), gateway, "gateway")
