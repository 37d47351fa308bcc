"""What is said of a run, in each situation that somebody may be in: the result, its one cause and what
to do about it, and the same in the log, in both reports and in the file that stays."""

import concurrent.futures
import dataclasses
import ipaddress
import json
import re
import typing

import jsonschema
import pytest

from lan import NETWORK, REPOSITORY, Lan, wait_until

COLUMNS, ROWS, BYTES = 80, 24, 4096  # a terminal's, and of DIR/explain at most
LABEL_WIDTH = 11
REPORTS = "--explain", "--json"
SCHEMA = json.loads((REPOSITORY / "tests/json/schema.json").read_text())
HOUSE_16 = ipaddress.ip_network("10.77.0.0/16")
FAST = ("--sweep-rate", "2000")  # nothing here depends on how fast a sweep is
DEAD_AIR = "table inet f { chain input { type filter hook input priority 0; udp dport 53 drop\n}\n}\n"
# By an ICMP message, which comes while connect(2) is at work.
REJECTING = "table inet f { chain output { type filter hook output priority 0; tcp dport 9999 reject\n}\n}\n"
SITUATIONS = []


@dataclasses.dataclass(frozen=True)
class Situation:
    """What somebody is in, and what must be said of it; TIME stands for any time,
    LINK-LOCAL for the cache at its link-local address, DIRECTORY for the hosts' files."""

    arrange: typing.Callable
    code: str
    cause: str
    remedy: str = ""
    label: str = "NOT FOUND"
    result: str = "no cache here (TIME); Nix uses https://cache.nixos.org"
    address: str | None = None
    http_status: int | None = None
    status: int = 0
    network: ipaddress.IPv4Network = NETWORK
    options: tuple = ()


def situation(code, cause, remedy="", **others):
    """Makes a situation of the function that arranges it, which gives further options or nothing."""
    def add(arrange):
        SITUATIONS.append(Situation(arrange, code, cause, remedy, **others))
        return arrange
    return add


def found(origin, cause, **others):
    """The same where the cache is found."""
    result = f"found at 10.77.0.141:9999 by {origin} in TIME"
    return situation("found", cause, label="FOUND", result=result, **others)


class House:
    """A router, a host for the cache, and the client that looks for it."""

    def __init__(self, lan):
        self.lan = lan
        self.router, self.cache, self.client = (
            lan.host(*it) for it in (("router", 1), ("cache", 141), ("client", 50)))
        self.client.write_etc("resolv.conf", f"nameserver {self.router.address}\n")

    def serve_dns(self, address=None):
        """A DNS server that knows the cache at this address, or that there is no such name."""
        record = [f"--host-record=waterbug.lan,{address}"] if address else []
        self.router.serve_dns("--local=/lan/", *record)

    def serve_cache(self, **options):
        """A cache whose name DNS does not know."""
        self.serve_dns()
        self.cache.serve_cache(**options)

    def unplug(self, host):
        """Pulls a cable at the switch."""
        self.lan.in_switch("ip", "link", "set", host.port, "down")


@found("hosts", "/etc/hosts names 10.77.0.141")
def hosts(house):
    house.serve_cache()
    house.client.write_etc("hosts", f"{house.cache.address} waterbug.lan\n")


@found("dns", "dns names 10.77.0.141")
def dns(house):
    house.serve_dns(house.cache.address)
    house.cache.serve_cache()


@found("mdns", "mdns names 10.77.0.141")
def mdns(house):
    house.serve_cache()
    house.cache.announce_by_avahi()


@found("gateway", "10.77.0.141:9999 (the gateway); no cache has the name")
def gateway(house):
    house.serve_cache()
    house.client.run("ip", "route", "add", "default", "via", house.cache.address)


@found("neighbours", "10.77.0.141:9999 (a neighbour); no cache has the name")
def neighbours(house):
    house.serve_cache()
    house.client.run("nc", "-z", "-w1", house.cache.address, "1", check=False)  # they meet


@found("ping", "10.77.0.141:9999 (found by ping); no cache has the name", options=("--methods", "dns,ping"))
def ping(house):
    house.serve_cache()
    house.cache.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0")


@found("sweep", "10.77.0.141:9999 (found by the sweep); no cache has the name", options=("--methods", "dns,sweep"))
def sweep(house):
    house.serve_cache()


@situation("override", "override 10.77.0.200:9999 (DIRECTORY/client/order) does not answer", "correct or remove it",
           address="10.77.0.200:9999", options=("--budget", "2"))
def a_dead_override(house):
    house.serve_cache()
    order = house.client.directory / "order"
    order.write_text("10.77.0.200\n")
    return "--override", order


@situation("port-closed", "dns names 10.77.0.141; port 9999 is closed there", "start the cache, or check --port",
           address="10.77.0.141:9999")
def a_closed_port(house):
    house.serve_dns(house.cache.address)


@situation("port-closed", "dns names 10.77.0.141; port 9999 is closed there", "start the cache, or check --port",
           address="10.77.0.141:9999")
def a_port_that_was_open_before(house):
    dns(house)
    for report in REPORTS:
        assert house.client.resolve("--output-dir", house.client.directory / report).status == 0
    house.cache.stop(house.cache.nginx)


@situation("http-status", "10.77.0.141:9999 (found by the sweep) answers HTTP 401",
           "make the cache public (attic cache configure system --public)",
           address="10.77.0.141:9999", http_status=401)
def a_private_cache(house):
    house.serve_cache(extra="return 401;")


@situation("http-status", "10.77.0.141:9999 answers HTTP 404 to /sytem/nix-cache-info",
           "check --path", address="10.77.0.141:9999", http_status=404, options=("--path", "/sytem"))
def a_wrong_path(house):
    dns(house)


@situation("http-status", "10.77.0.141:9999 (named by dns) answers HTTP 301",
           "does it want TLS? serve plain HTTP, too",
           address="10.77.0.141:9999", http_status=301)
def a_cache_that_wants_tls(house):
    house.serve_dns(house.cache.address)
    house.cache.serve_cache(extra="return 301 https://waterbug.lan:9999$request_uri;")


@situation("link-local", "LINK-LOCAL answers only at a link-local address, which Nix cannot use",
           "give it an IPv4 or ULA address", address="LINK-LOCAL")
def a_link_local_address(house):
    for host in (house.cache, house.client):
        host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
    house.cache.run("ip", "-4", "address", "flush", "dev", "eth0")
    house.serve_cache()
    house.cache.announce_by_avahi()


@situation("public-address", "dns names 93.184.216.34, no private address", "to allow it, add it to /etc/hosts",
           address="93.184.216.34:9999")
def a_public_address(house):
    house.serve_dns("93.184.216.34")


@situation("unusable-address", "dns names 0.0.0.0, which is no other host",
           "is the name blocked? add the cache to /etc/hosts", address="0.0.0.0:9999")
def a_blocked_name(house):
    house.serve_dns("0.0.0.0")


@situation("unusable-address", "dns names 127.0.0.1, which is no other host",
           "is the name blocked? add the cache to /etc/hosts", address="127.0.0.1:9999")
def a_name_that_leads_home(house):
    house.serve_dns("127.0.0.1")


@situation("port-closed", "dns names 10.77.0.141; port 9999 is closed there", "start the cache, or check --port",
           address="10.77.0.141:9999")
def a_printer_with_a_password(house):
    house.serve_dns(house.cache.address)
    house.lan.host("printer", 7).serve_cache(extra="return 401;")


@situation("port-closed", "dns names 10.77.0.141; port 9999 is closed there", "start the cache, or check --port",
           address="10.77.0.141:9999", options=("--methods", "dns"))
def a_firewall_of_ours_that_rejects(house):
    house.serve_dns(house.cache.address)
    house.cache.serve_cache()
    house.client.run("nft", "-f", "-", input=REJECTING)


@situation("sweep-limit", "asked 1,022 of 65,533 addresses", "name the part where it is, --sweep CIDR",
           network=HOUSE_16)
def a_large_network(house):
    house.serve_dns()


@situation("captive-portal", "every answer was a redirect (HTTP 302 from 10.77.0.1:9999)",
           "a captive portal? log in there first", address="10.77.0.1:9999", http_status=302)
def a_captive_portal(house):
    house.router.serve_dns(f"--address=/#/{house.router.address}")
    house.router.serve_cache(extra="return 302 http://portal.example/;")


@situation("captive-portal", "every answer was a redirect (HTTP 302 from 10.77.0.1:9999)",
           "a captive portal? log in there first", address="10.77.0.1:9999", http_status=302)
def a_captive_portal_with_public_addresses(house):
    house.router.serve_dns("--address=/#/93.184.216.34")
    house.router.serve_cache(extra="return 302 http://portal.example/;")
    house.client.run("ip", "route", "add", "default", "via", house.router.address)


@situation("dns-failed", "DNS 10.77.0.1 refuses, or has failed; 2 hosts, none with port 9999 open",
           "check the DNS server, or add the cache to /etc/hosts", address="10.77.0.1:53")
def a_dns_server_that_refuses(house):
    house.router.serve_dns()


@situation("dns-silent", "DNS 10.77.0.1 does not answer; 2 hosts, none with port 9999 open",
           "check the DNS server, or add the cache to /etc/hosts", address="10.77.0.1:53")
def a_silent_dns_server(house):
    house.router.run("nft", "-f", "-", input=DEAD_AIR)


@situation("dns-silent", "DNS 10.77.0.1 does not answer; 2 hosts, none with port 9999 open",
           "check the DNS server, or add the cache to /etc/hosts", address="10.77.0.1:53", network=HOUSE_16)
def a_silent_dns_server_of_a_large_network(house):
    house.router.run("nft", "-f", "-", input=DEAD_AIR)


@situation("name-unknown", "name unknown; 2 hosts, none with port 9999 open", "is the cache on another network?")
def no_cache(house):
    house.serve_dns()


@situation("isolated", "only the gateway is visible", "a guest network that keeps its clients apart?")
def a_guest_network(house):
    house.serve_cache()
    house.client.run("ip", "route", "add", "default", "via", house.router.address)
    house.unplug(house.cache)


@situation("no-network", "no usable network in TIME: eth0 has no carrier, wlan0 has no address", status=75,
           label="NO NETWORK", result="no network (TIME); Nix uses https://cache.nixos.org",
           options=("--budget", "1"))
def no_network(house):
    house.client.run("ip", "link", "add", "wlan0", "type", "veth", "peer", "name", "air", "netns", house.lan.switch)
    house.lan.in_switch("ip", "link", "set", "air", "up")
    house.client.run("ip", "link", "set", "wlan0", "up")
    house.unplug(house.client)


@situation("no-network", "no usable network in TIME: eth0 has only a link-local address (no DHCP answer?)", status=75,
           label="NO NETWORK", result="no network (TIME); Nix uses https://cache.nixos.org",
           options=("--budget", "1"))
def no_dhcp_server(house):
    house.client.run("ip", "address", "flush", "dev", "eth0")
    house.client.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
    wait_until(lambda: house.client.addresses("link"), "a link-local address")


def without_times(text):
    """The text, whenever things happened."""
    return re.sub(r"\d+(\.\d+)? m?s\b", "TIME", text)


def rows_above_the_table(screen):
    """Each label and its text, which may go on below itself."""
    rows = []
    for row in screen.partition("\n\n")[0].splitlines():
        label, text = row[:LABEL_WIDTH].rstrip(), row[LABEL_WIDTH:]
        if label:
            rows.append([label, text])
        else:
            rows[-1][1] += f" {text}"
    return rows


@pytest.mark.parametrize("told", SITUATIONS, ids=lambda told: told.arrange.__name__)
def test_everything_says_the_same(told):
    """The reports are of two runs at once."""
    with Lan(told.network) as lan:
        house = House(lan)
        words = (*FAST, *told.options, *(told.arrange(house) or ()))
        with concurrent.futures.ThreadPoolExecutor() as both:
            text, data = both.map(lambda report: house.client.resolve(
                *words, report, "--output-dir", house.client.directory / report, check=False), REPORTS)
        left = house.client.directory / "--explain/explain"
        assert left.read_text() == text.stdout and left.stat().st_mode & 0o7777 == 0o644
        link_local = (house.cache.addresses("link") or [""])[0]
    assert (text.status, data.status) == (told.status, told.status), text.log + data.log

    def expand(words):
        return words and words.replace("LINK-LOCAL", f"[{link_local}%eth0]:9999").replace(
            "DIRECTORY", str(lan.directory))
    cause, address = expand(told.cause), expand(told.address)
    check_screen(told, text.stdout, cause, address)
    check_log(told, text.log, cause)
    check_json(told, json.loads(data.stdout), cause, address)


def check_screen(told, screen, cause, address):
    """The result and its cause come first, and all fits on a screen."""
    lines = screen.splitlines()
    assert screen.isascii() and len(screen) <= BYTES, screen
    assert len(lines) <= ROWS and max(map(len, lines)) <= COLUMNS, screen
    rows = rows_above_the_table(without_times(screen))
    tried = [["try", told.remedy]] if told.remedy else []
    assert rows[:2] + rows[2:2 + len(tried)] == [[told.label, told.result], ["cause", cause], *tried], screen
    assert lines[1].startswith("cause") and (address or "").removesuffix(":53").removesuffix(":9999") in lines[1]


def check_log(told, log, cause):
    """Where there is no cache the last line of all says why; that there is one stands above the files."""
    line = f"cache-resolver: {told.result}"
    lines = without_times(log).splitlines()
    if told.label == "FOUND":
        wrote = next(index for index, row in enumerate(lines) if row.startswith("cache-resolver: wrote "))
        assert lines[wrote - 1] == line, log
        assert all(row.startswith("cache-resolver:   ") for row in lines[wrote + 1:]), log
        return
    line += f". Cause: {cause}" + (f": {told.remedy}" if told.remedy else "")
    line += " (exit status 75)" if told.status else ""
    assert lines[-1] == line, log


def check_json(told, report, cause, address):
    """It has its form, and the cause is in it in words and in fields."""
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    expected = {"code": told.code, "text": cause, "remedy": told.remedy, "address": address,
                "http_status": told.http_status}
    given = {**report["cause"], "text": without_times(report["cause"]["text"])}
    assert given == {key: value for key, value in expected.items() if value is not None}


@pytest.fixture
def house():
    """One whose DNS server knows of no cache."""
    with Lan() as lan:
        house = House(lan)
        house.serve_dns()
        yield house


@pytest.mark.parametrize("options", [
    ("--dry-run",),
    ("--methods", "hosts", "--upstream", "https://cache.nixos.org", "--upstream", "https://nix-community.cachix.org")])
def test_the_cause_is_in_the_second_row_and_no_row_is_too_long(house, options):
    screen = house.client.resolve("--explain", *FAST, *options).stdout
    lines = [line.removeprefix("# ") for line in screen.splitlines()]
    assert lines[0].startswith("NOT FOUND ") and lines[1].startswith("cause "), screen
    assert max(map(len, screen.splitlines())) <= COLUMNS, screen


@pytest.mark.parametrize("name, shown", [('e"h\\0', "e?h?0"), ("e\x1b[31mh", "e?[31mh"), ("e\u00e4h", "e??h")])
def test_an_interface_may_have_any_name(house, name, shown):
    """The kernel refuses only a slash, a colon and white space."""
    client = house.client
    client.run("ip", "link", "set", "eth0", "down")
    client.run("ip", "link", "set", "eth0", "name", name)
    client.run("ip", "link", "set", name, "up")
    wait_until(lambda: client.run("cat", f"/sys/class/net/{name}/operstate").stdout == "up\n", name)
    words = "--methods", "dns,mdns", "--budget", "2"
    for row in (f"on         {shown} 10.77.0.50/24, DNS 10.77.0.1",
                f"cause      no usable network in TIME: {shown} has no carrier"):
        text, data = (client.resolve(*words, report, check=False) for report in REPORTS)
        assert row in without_times(text.stdout).splitlines()
        assert (client.directory / "out/explain").read_text().replace("\n", "").isprintable()
        assert (text.log + data.log).replace("\n", "").isprintable()
        report = json.loads(data.stdout)
        jsonschema.Draft202012Validator(SCHEMA).validate(report)
        house.unplug(client)


def test_multicast_dns_that_has_spoken_is_no_silence():
    """Though DNS names the same address, and is trusted more."""
    with Lan(NETWORK) as lan:
        house = House(lan)
        house.serve_dns(house.cache.address)
        house.cache.announce_by_avahi()
        screen = house.client.resolve("--explain", "--methods", "dns,mdns").stdout
    assert re.search(r"^mdns .* eth0 IPv4: an address$", screen, re.M), screen
    assert "no reply" not in screen.partition("\n\n")[2], screen
