"""What others say of the cache: off-link, to ourselves, too much of it, too late, too early."""

import time

import pytest

import forge
from lan import PROGRAM, wait_until
from test_names import assert_found, assert_not_found

pytestmark = pytest.mark.alone

OFF_LINK = [f"10.99.0.{number}" for number in range(5, 10)]


class Run:
    """The program under way, and what it says."""

    def __init__(self, host, *options):
        self.files = host.directory / "out"
        self.started = time.monotonic()
        self.process = host.start(PROGRAM, "--output-dir", self.files, "--verbose", *options)

    @property
    def log(self):
        """What it has said so far."""
        return self.process.log.read_text()

    def wait_for(self, text):
        """Waits until it says something."""
        wait_until(lambda: text in self.log, text)

    def wait(self):
        """Waits until it ends; the address that was found, or None."""
        assert self.process.wait(15) == 0, self.log
        self.seconds = time.monotonic() - self.started
        path = self.files / "waterbug-ip"
        return path.read_text() if path.exists() else None


def count(host, match):
    """Counts the packets that a host sends and that match."""
    host.run("nft", "-f", "-", input=f"""table inet count {{ chain output {{
        type filter hook output priority 0
        {match} counter
        }}
        }}
        """)


def counted(host):
    """How many there were."""
    return int(host.run("nft", "list", "table", "inet", "count").stdout.split("packets ")[1].split()[0])


def test_weak_leads_that_are_off_link(lan, router, client):
    """Forged answers to our ping, and an entry in our own table of neighbours, of hosts behind the router."""
    client.write_etc("resolv.conf", "nameserver 127.0.0.1\n")
    client.run("ip", "route", "add", "default", "via", router.address)
    client.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
    for address in OFF_LINK:
        router.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    hardware = router.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    client.run("ip", "neigh", "add", OFF_LINK[0], "lladdr", hardware, "dev", "eth0")
    forge.start(lan.host("forger", 66), "ping", *OFF_LINK[1:], "10.77.0.99")
    count(client, "ip daddr 10.99.0.0/24")
    result = client.resolve("--methods", "mdns,neighbours,ping", "--explain", "--verbose")
    assert_not_found(result, 5)
    assert counted(client) == 0, result.stdout
    assert "ping: 10.77.0.99:9999 is a candidate" in result.stdout, "the forger is heard"


def test_dns_that_names_link_local_addresses_or_ourselves(lan, cache, router, client):
    client.run("ip", "route", "add", "default", "via", router.address)
    client.serve_cache()
    cache.run("ip", "address", "add", "169.254.7.7/16", "dev", "eth0")
    router.serve_dns("--local=/lan/", *(
        f"--host-record=waterbug.lan,{address}" for address in ("169.254.7.7", "127.0.0.1", "::1")))
    count(client, "ip daddr { 169.254.0.0/16, 127.0.0.1 } tcp dport 9999")
    assert_not_found(client.resolve("--methods", "dns"), 2)
    assert counted(client) == 0 and client.requests() == []
    client.run("ip", "address", "add", "169.254.7.5/16", "dev", "eth0")
    assert client.resolve("--methods", "dns").address == "169.254.7.7"
    assert client.requests() == []


def test_our_own_addresses_are_no_leads(lan):
    """A neighbour's answers name us, and so does our table of neighbours."""
    client, liar = lan.host("client", 50, ipv6=True), lan.host("liar", 66, ipv6=True)
    client.serve_cache()
    own = client.addresses("link")[0]
    forge.start(liar, "mdns", "46", own)
    hardware = liar.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    for address in (own, client.address):
        client.run("ip", "neigh", "add", address, "lladdr", hardware, "dev", "eth0", check=False)
    result = client.resolve("--methods", "mdns,gateway,neighbours,ping")
    assert_not_found(result, 5)
    assert client.requests() == []


def test_two_liars_among_responders(lan, cache, client):
    """Each names 32 hosts that are not there, before the cache speaks or after it."""
    for number in range(2):
        liar = lan.host(f"liar{number}", 10 + number)
        forge.start(liar, "mdns", "4", *(lan.network[n] for n in range(150, 182)))
    cache.announce_by_avahi()
    result = client.resolve("--methods", "mdns")
    assert_found(result, cache, "mdns")
    assert result.seconds < 1, result.log


def test_one_liar_among_dns_servers(lan, cache, router, client):
    """It knows 32 tarpits, and the honest server answers after it."""
    numbers = range(150, 182)
    for number in numbers:
        router.add_address(lan.network[number])
    router.start("/usr/bin/python3", "-c", (
        "import socket\n"
        "s, held = socket.create_server(('0.0.0.0', 9999), backlog=200), []\n"
        "while True: held.append(s.accept())\n"))
    router.wait_for_port(9999, "t")
    router.serve_dns(*(f"--host-record=waterbug.lan,{lan.network[number]}" for number in numbers))
    honest, told = lan.host("honest", 2), client.directory / "told"
    forge.start(honest, "dns", told, cache.address)
    client.write_etc("resolv.conf", f"nameserver {router.address}\nnameserver {honest.address}\n")
    run = Run(client, "--methods", "dns")
    run.wait_for("is a candidate")
    time.sleep(0.3)
    told.touch()
    assert run.wait() == f"{cache.address}\n" and run.seconds < 2, run.log


@pytest.mark.parametrize("weakness", ["closed", "dropped"])
def test_a_weak_failure_is_not_the_last_word(lan, client, weakness):
    """The gateway is no cache yet when it is asked; then DNS names it, and it is one."""
    cache, router = lan.host("cache", 2), lan.host("router", 1)
    client.run("ip", "route", "add", "default", "via", cache.address)
    told = client.directory / "told"
    forge.start(router, "dns", told, cache.address)
    if weakness == "dropped":
        cache.serve_cache()
        cache.run("nft", "-f", "-", input="table ip f { chain input { "
                  "type filter hook input priority 0; tcp dport 9999 drop\n}\n}\n")
    run = Run(client, "--methods", "dns,gateway")
    failure = {"closed": "port closed", "dropped": "no reply"}[weakness]
    run.wait_for(f"gateway: {cache.address}:9999 {failure}")
    if weakness == "dropped":
        cache.run("nft", "delete", "table", "ip", "f")
    else:
        cache.serve_cache()
    told.touch()
    assert run.wait() == f"{cache.address}\n", run.log


@pytest.mark.parametrize("route", ["default", "none"])
def test_out_of_reach_until_the_network_changes(lan, router, client, route):
    """DNS names a host of the other network on this link, before we have an address there."""
    cache = lan.host("cache")
    cache.run("ip", "address", "add", "10.78.0.141/24", "dev", "eth0")
    cache.serve_cache()
    if route == "default":
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=0")  # nobody passes it on
        client.run("ip", "route", "add", "default", "via", router.address)
    router.serve_dns("--local=/lan/", "--host-record=waterbug.lan,10.78.0.141")
    silent, never = lan.host("silent", 2), client.directory / "never"
    forge.start(silent, "dns", never, cache.address)  # so that the search goes on
    client.write_etc("resolv.conf", f"nameserver {router.address}\nnameserver {silent.address}\n")
    run = Run(client, "--methods", "dns")
    failure = {"default": "no reply", "none": "unreachable"}[route]
    run.wait_for(f"dns: 10.78.0.141:9999 {failure}")
    client.run("ip", "address", "add", "10.78.0.50/24", "dev", "eth0")
    assert run.wait() == "10.78.0.141\n", run.log


def test_a_router_that_appears_delays_nothing(lan, router):
    """QEMU's gateway introduces itself while we search; as a DNS server it is silent."""
    client = lan.host("client", 50, ipv6=True)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    router.serve_dns("--local=/lan/")
    late = lan.host("late", ipv6=True)
    late.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    late.run("nft", "-f", "-", input="table inet f { chain input { "
             "type filter hook input priority 0; meta l4proto { tcp, udp } th dport 53 drop\n}\n}\n")
    without = Run(client)
    assert without.wait() is None
    told = client.directory / "told"
    forge.start(late, "router", told)
    run = Run(client)
    run.wait_for("sweep: started")
    told.touch()
    run.wait_for("dns: asked [fe80::")
    assert run.wait() is None and run.seconds < without.seconds + 0.5, run.log


def test_a_forwarder_that_refuses_until_there_is_a_network(lan, cache, router):
    """dnsmasq on this host, which has nobody to ask yet."""
    client = lan.host("client", 50, plugged=False)
    client.serve_dns("--no-resolv", f"--server={router.address}")
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    run = Run(client, "--methods", "dns")
    run.wait_for("dns: 127.0.0.1:53: ")
    client.plug()
    assert run.wait() == f"{cache.address}\n", run.log
