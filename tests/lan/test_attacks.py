"""An enemy on the LAN, who knows how the program works: tests/lan/test_hostile.py has the one who sends what is
expensive, tests/lan/test_lies.py the one who lies.

Whatever is done to it, the program finds the cache that a better word than the enemy's leads to, keeps its budget,
ends when it is told to, writes nothing false, and sends nothing off-link. Every attack ends by itself.
"""

import os
import signal
import time

import pytest

import attacker
import forge
from lan import PYTHON
from test_hostile import LATE_MAX, STOP_MAX, best, real_time, seconds_late, seconds_to_stop
from test_lies import count, counted
from test_names import assert_not_found
from test_watch import SETTLE, Watcher

pytestmark = pytest.mark.alone

# Seconds of an attack, more than a test takes.
ATTACK = 30
# Seconds of one that a watcher endures.
ATTACKED = 2
# What it may use of the processor in that time, in seconds: nothing where nothing changes, and a search a second
# where the network is another one every second. And the packets that it may send.
FLOOD_CPU_MAX = 0.02
ROUTERS_CPU_MAX = 0.2
WATCHER_PACKETS_MAX = 200
# Packets of a search in which everybody seems to be there: each of 254 addresses is asked twice by ARP, and three
# times to connect, with an ARP request each; 64 are asked by multicast DNS, three times two questions.
FIRST_PACKETS_MAX = 254 * (2 + 2 * 3) + 64 * 6 + 300
# Packets off-link that DNS or multicast DNS may cause in a second, to private addresses: eight at a time, three
# attempts each.
OFF_LINK_MAX = 8 * 3
# Routes of a network that somebody fills.
ROUTES = 200_000
# Seconds that it takes: what is named has two each, in two rounds, and before that the sweep is not believed.
FIRST_MAX = 7
MEGABYTE = 1 << 20
# A host that nobody has named but the enemy.
LIE = "10.77.0.240"
# What a name costs at most while everybody shouts, in seconds.
FOUND_MAX = 0.5


def hardware(host):
    """Its Ethernet address."""
    return host.run("cat", "/sys/class/net/eth0/address").stdout.strip()


@pytest.fixture
def enemy(lan):
    """The host of the attacker."""
    return lan.host("enemy", 66, ipv6=True)


@pytest.mark.parametrize("kind", ["dns", "mdns"])
def test_what_others_stumbled_over(lan, cache, client, enemy, kind):
    """All of it at once, from the server that is asked and from a responder; and then the truth."""
    client.write_etc("resolv.conf", f"nameserver {enemy.address}\n")
    attacker.start(enemy, "wire", ATTACK, kind, LIE, cache.address)
    count(client, f"ip daddr {LIE}")
    result = client.resolve("--methods", kind, "--verbose")
    assert result.address == cache.address and result.seconds < 1, result.log
    assert counted(client) == 0


def test_frames_that_are_no_answers(cache, client, enemy):
    """Not IP, of another VLAN, to another group, in pieces; to us alone and from beyond the link, or to another port."""
    client.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
    attacker.start(enemy, "frames", ATTACK, LIE, client.address, hardware(client))
    count(client, f"ip daddr {LIE}")
    result = client.resolve("--methods", "mdns", "--verbose")
    assert_not_found(result, 2)
    assert counted(client) == 0, result.log


@pytest.fixture
def exposed(lan, router, cache, enemy):
    """A host that speaks both IP, whose router knows a cache and leads out, and the enemy's aim at it."""
    client = lan.host("exposed", 51, ipv6=True)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    client.run("ip", "route", "add", "default", "via", router.address)
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    client.aim = [hardware(client), client.address, client.addresses("link")[0]]
    return client


@pytest.mark.parametrize("kind", ["mdns", "goodbye", "arp", "icmp", "ports"])
def test_a_hundred_thousand_packets_a_second(cache, enemy, exposed, kind):
    """DNS knows the cache; then nobody does."""
    aim = exposed.aim[:2] if kind == "arp" else exposed.aim
    process = attacker.start(enemy, "flood", ATTACK, kind, *aim)

    def seconds():
        result = exposed.resolve()
        assert result.address == cache.address, result.log
        return result.seconds
    assert best(seconds, FOUND_MAX) < FOUND_MAX
    exposed.write_etc("resolv.conf", f"nameserver {enemy.address}\n")
    cache.stop(cache.nginx)
    count(exposed, "ip daddr != { 10.77.0.0/24, 224.0.0.0/4 }")
    assert best(lambda: seconds_late(exposed, "--methods", "dns,mdns,neighbours,ping,sweep"), LATE_MAX) < LATE_MAX
    assert best(lambda: seconds_to_stop(exposed), STOP_MAX) < STOP_MAX
    print(counted(exposed), "packets off-link")
    assert counted(exposed) <= (OFF_LINK_MAX * 2 * 3 if kind == "mdns" else 0), "none but those that are named"
    enemy.stop(process)
    print(process.log.read_text())


def cpu_seconds(process):
    """What a process has used of the processor."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")")[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_watcher_under_attack(lan, cache, router, enemy, exposed):
    """It sleeps through what does not change its network, and follows what does; then it goes on as before."""
    other = lan.host("other", 142)
    other.serve_cache()
    with real_time():
        watcher = Watcher(exposed)
    watcher.wait_for(cache)
    watcher.wait_until_idle()
    stamp = watcher.stamp()
    for words, cpu, requests in (
        (["flood", "mdns", *exposed.aim], FLOOD_CPU_MAX, 0),
        (["flood", "ports", *exposed.aim], FLOOD_CPU_MAX, 0),
        (["routers"], ROUTERS_CPU_MAX, ATTACKED + 1),
    ):
        kind, *words = words
        used, asked, sent = cpu_seconds(watcher.process), len(cache.requests()), exposed.packets_sent()
        process = attacker.start(enemy, kind, ATTACKED, *words)
        process.wait()
        used, sent = cpu_seconds(watcher.process) - used, exposed.packets_sent() - sent
        print(kind, used, sent)
        assert used <= cpu, (kind, watcher.log)
        assert len(cache.requests()) - asked <= requests, "asked no more than once a second"
        assert sent <= WATCHER_PACKETS_MAX, kind
        assert watcher.stamp() == stamp, watcher.log
    # There is another cache, and a reason to look for it.
    router.stop(router.processes[-1])
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{other.address}")
    cache.stop(cache.nginx)
    exposed.add_address("10.77.0.52")
    watcher.wait_for(other)
    attacker.start(enemy, "routers", ATTACK)
    attacker.start(enemy, "flood", ATTACK, "mdns", *exposed.aim)
    time.sleep(1.5 * SETTLE)  # it searches now, or has just done so
    with real_time():
        started = time.monotonic()
        watcher.process.send_signal(signal.SIGTERM)
        assert watcher.process.wait() == 0
        assert time.monotonic() - started < STOP_MAX
    watcher.wait_for(other, 1)


def test_two_hundred_thousand_routes(client):
    """As many as router advertisements bring in half a minute: the kernel has no limit for them."""
    client.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0", "net.ipv6.route.max_size=2147483647")
    client.run("ip", "-6", "-batch", "-", input="".join(
        f"route add fd66:{number >> 16:x}:{number & 0xffff:x}::/64 dev eth0\n" for number in range(ROUTES)))
    # And what has them read again and again.
    client.start("sh", "-c", "while sleep 0.02; do ip address add 10.200.0.1/24 dev eth0; ip address flush to 10.200.0.1;"
                 " done")
    assert best(lambda: seconds_late(client), LATE_MAX) < LATE_MAX
    assert best(lambda: seconds_to_stop(client), STOP_MAX) < STOP_MAX


def test_a_resolv_conf_of_a_megabyte(lan, client):
    """As a DHCP server may have it written."""
    for line in ("nameserver fe80::1%nowhere", "nameserver 10.77.9.9", "search x", "x" * MEGABYTE):
        lines = f"{line}\n" * (MEGABYTE // len(line))
        client.write_etc("resolv.conf", f"{lines}nameserver {lan.network[1]}\n")
        assert best(lambda: seconds_late(client), LATE_MAX) < LATE_MAX
        assert best(lambda: seconds_to_stop(client), STOP_MAX) < STOP_MAX


def test_whoever_answers_first(cache, router, client, enemy):
    """The enemy is the DNS server, everybody's responder and every host that does not exist, and its word comes
    before all others'. Nothing but the sweep leads to the cache; then its own word does."""
    router.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=8")  # slower than the enemy can be
    router.serve_dns(f"--host-record=waterbug.lan,{cache.address}")
    attacker.start(enemy, "first", ATTACK, cache.address)
    count(client, "ip daddr != { 10.77.0.0/24, 224.0.0.0/4 }")
    before = client.packets_sent()
    result = client.resolve()
    assert result.address == cache.address, result.log
    sent = client.packets_sent() - before
    print(result.seconds, sent)
    assert sent <= FIRST_PACKETS_MAX and result.seconds < FIRST_MAX
    (result.directory / "waterbug-ip").unlink()
    cache.announce_by_avahi()
    result = client.resolve()
    assert result.address == cache.address and result.seconds < 1, result.log
    assert counted(client) == 0


def test_sixty_four_tarpits_and_a_false_waterbug(lan, cache, router, client, enemy):
    """All of them accept and say a byte a second, over DNS by TCP too; one says that it is waterbug.local."""
    for number in range(67, 130):
        enemy.add_address(lan.network[number])
    attacker.start(enemy, "drip", ATTACK, "9999")
    attacker.start(enemy, "drip", ATTACK, "53")
    enemy.start(PYTHON, "-c", TRUNCATED)
    enemy.wait_for_port(53, "u")
    client.write_etc("resolv.conf", f"nameserver {enemy.address}\n")
    result = client.resolve("--verbose")
    assert result.address == cache.address and result.seconds < 3, result.log
    (result.directory / "waterbug-ip").unlink()
    forge.start(enemy, "mdns", "4", enemy.address)
    cache.announce_by_zeroconf()
    result = client.resolve()
    assert result.address == cache.address and result.seconds < 1, result.log


TRUNCATED = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 53))
while True:
    query, peer = s.recvfrom(2000)
    for _ in range(50):
        s.sendto(query[:2] + b"\\x83\\x80" + query[4:], peer)
"""


def test_addresses_that_are_of_no_use(lan, cache, router, client):
    """Of other networks' kinds, not of this host alone, of nobody; and the kernel's tables never stand still."""
    twin = lan.host("twin", ipv6=True)
    twin.run("ip", "address", "add", "fd00::77/64", "dev", "eth0", "nodad")
    client.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.eth0.accept_dad=1")
    for address in ("fd00::77/64", "0.0.0.1/8", "240.0.0.1/4", "127.1.1.1/8", "255.255.255.254/31", "192.0.2.1/0",
                    "fe80::/64", "2001:db8::1/0"):
        client.run("ip", "address", "add", address, "dev", "eth0", check=False)
    lines = "".join(f"address {verb} 198.18.{number >> 8}.{number & 255}/32 dev lo\n"
                    for number in range(20_000) for verb in ("add", "del"))
    (client.directory / "batch").write_text(lines)
    client.start("ip", "-force", "-batch", client.directory / "batch")
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    assert client.resolve().address == cache.address
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    cache.stop(cache.nginx)
    (client.directory / "out/waterbug-ip").unlink()
    count(client, "ip daddr != { 10.77.0.0/24, 224.0.0.0/4, 127.0.0.0/8 }")
    assert best(lambda: seconds_late(client), LATE_MAX) < LATE_MAX
    assert best(lambda: seconds_to_stop(client), STOP_MAX) < STOP_MAX
    assert counted(client) == 0
