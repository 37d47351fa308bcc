"""Caches that announce themselves, as those do that are out there; and liars that do."""

import json
import re
import statistics
import textwrap
import time

import pytest

import forge
from lan import PROGRAM, PYTHON, REPOSITORY, wait_until
from test_lies import count, counted
from test_mdns import add_host
from test_names import FALLBACK, assert_not_found

README = (REPOSITORY / "nix/README.md").read_text()
# Answers everything as a cache would.
ANYTHING = r"location ~ nix-cache-info$ { return 200 'StoreDir: /nix/store\n'; }"
PORT = 8080


def from_readme(pattern):
    """The lines of an example in nix/README.md."""
    return textwrap.dedent(re.search(pattern, README, re.MULTILINE | re.DOTALL).group())


README_FILE = from_readme(r"^    <\?xml.*?</service-group>\n")


def service_file(kind, name, port, *text):
    """A service file of Avahi."""
    records = "".join(f"<txt-record>{each}</txt-record>" for each in text)
    return (f'<service-group><name replace-wildcards="yes">{name}</name><service>'
            f"<type>{kind}</type><port>{port}</port>{records}</service></service-group>")


def announce(host, *files, name="hive"):
    """Avahi with service files, on a host that is called `name`.local."""
    directory = host.etc / "avahi/services"
    directory.mkdir(parents=True)
    for number, content in enumerate(files):
        (directory / f"{number}.service").write_text(content)
    process = host.announce_by_avahi(name)
    wait_until(lambda: process.log.read_text().count("successfully established") == len(files),
               process.log.read_text())


def beacon(host, *services, name="hive", port=PORT, addresses=None, kind="_nix-cache._tcp", text=()):
    """nix-cache-beacon, or one who speaks like it, of one service or of several."""
    own = {"type": kind, "name": "1f0c3ad2-9d0e-4a52-8b8e-2e0f4c1d7a11", "port": port,
           "hostname": f"{name}.local", "text": text,
           "addresses": host.addresses("global") if addresses is None else addresses}
    versions = "46" if host.addresses("link") else "4"
    forge.start(host, "beacon", versions, json.dumps([own | service for service in services or [{}]]))


def announce_by_zeroconf(host):
    """python-zeroconf, with a name of two words."""
    addresses = host.addresses("global")
    version = "V6Only" if ":" in addresses[0] else "V4Only"
    process = host.start(PYTHON, "-c", (
        "import threading, zeroconf as z\n"
        f"daemon = z.Zeroconf(interfaces={addresses}, ip_version=z.IPVersion.{version})\n"
        "kind = '_nix-cache._tcp.local.'\n"
        f"daemon.register_service(z.ServiceInfo(kind, 'My cache.' + kind, port={PORT},\n"
        f"    properties={{'path': '/other'}}, parsed_addresses={addresses}, server='hive.local.'))\n"
        "print('ready', flush=True)\n"
        "threading.Event().wait()\n"))
    wait_until(lambda: "ready" in process.log.read_text(), "zeroconf")


def serve(host, port, path):
    """A cache on a port and a path that are not the usual ones, only to be found by its announcement."""
    directory = host.directory / f"cache{port}"
    host.serve_cache(port=port, extra=f"location {path.rstrip('/')}/ {{ alias {directory}/; }}")


def avahi(*words):
    """Who announces a service with Avahi."""
    return lambda host: announce(host, service_file(*words))


# Who announces, and which port and path.
PEERS = {
    "no path": (avahi("_nix-cache._tcp", "nix binary cache on %h", 5000), 5000, "/"),
    "spaces and dots": (
        avahi("_nix-cache._tcp", "v2.0 (fast. really)  ...", PORT, "owner=me", "path=/other"), PORT, "/other"),
    "slash at the end": (avahi("_nix-cache._tcp", "%h", PORT, "path=/other/"), PORT, "/other"),
    # As in the test that comes with it (nix/tests/p2p.nix); it announces nothing itself.
    "ncro": (avahi("_nix-serve._tcp", "nix-serve on %h", 5000), 5000, "/"),
    "nixos-passthru-cache": (avahi("_http._tcp", "%h Nix cache", 80, "path=/", "nix-cache=1"), 80, "/"),
    "nix-cache-beacon": (lambda host: beacon(host, kind="_nix_binary_cache._tcp"), PORT, "/"),
    "zeroconf": (announce_by_zeroconf, PORT, "/other"),
}


def assert_announced(result, host, port, path):
    """Found at an announced port and path, and only there."""
    assert result.address in host.addresses("global"), result.log
    address = f"[{result.address}]" if ":" in result.address else result.address
    url = f"http://{address}:{port}{path.rstrip('/')}?priority=30"
    assert f"substituters = {url} https://cache.nixos.org\n" in result.nix_conf, result.nix_conf
    assert "by announced in" in result.log


@pytest.mark.parametrize("families", ["IPv4", "IPv6"])
@pytest.mark.parametrize("peer", PEERS)
def test_announcements(lan, peer, families):
    speak, port, path = PEERS[peer]
    cache = add_host(lan, "cache", 141, families)
    serve(cache, port, path)
    speak(cache)
    walled = add_host(lan, "walled", 51, families)
    walled.drop_by_default()
    for client in (add_host(lan, "client", 50, families), walled):
        assert_announced(client.resolve("--browse", "--methods", "announced"), cache, port, path)


def test_the_file_of_the_readme(lan, cache, client):
    announce(cache, README_FILE)
    assert_announced(client.resolve("--browse", "--methods", "announced"), cache, 9999, "/system")


@pytest.mark.parametrize("search", ["search lan", "domain lan", "search nowhere.example lan."])
def test_the_dnsmasq_lines_of_the_readme(lan, cache, router, client, search):
    lines = from_readme(r"^    srv-host=.*?host-record=.*?\n").replace("10.0.8.141", cache.address)
    router.serve_dns("--local=/lan/", *(f"--{line}" for line in lines.split()))
    client.write_etc("resolv.conf", f"{search}\nnameserver {router.address}\n")
    client.drop_by_default()
    assert_announced(client.resolve("--browse", "--methods", "announced"), cache, 9999, "/system")


def test_in_the_unicast_dns_without_a_path(lan, router, client):
    cache = lan.host("cache", 141)
    serve(cache, PORT, "/")
    router.serve_dns("--local=/lan/", f"--srv-host=_nix-cache._tcp.lan,hive.lan,{PORT}",
                     f"--host-record=hive.lan,{cache.address}")
    client.write_etc("resolv.conf", f"search lan\nnameserver {router.address}\n")
    assert_announced(client.resolve("--browse", "--methods", "announced"), cache, PORT, "/")


def test_a_second_run_leaves_the_file_as_it_is(lan, client):
    """The first one's address, with the usual port and path, leads nowhere."""
    cache = lan.host("cache", 141)
    serve(cache, PORT, "/other")
    beacon(cache, text=["path=/other"])
    client.write_etc("resolv.conf", "nameserver 127.0.0.1\n")
    for _ in range(2):
        assert_announced(client.resolve("--browse"), cache, PORT, "/other")
        written = (client.directory / "out/nix.conf").stat().st_mtime_ns
    assert client.resolve("--browse").address == cache.address
    assert (client.directory / "out/nix.conf").stat().st_mtime_ns == written


# Whoever is known by name has a head start, of 130 ms, where those are asked, too.
@pytest.mark.parametrize("options,limit", [(["--methods", "announced"], 100), ([], 150)])
def test_soon(lan, client, options, limit):
    """Behind a firewall."""
    cache = lan.host("hive", 141)
    serve(cache, PORT, "/other")
    announce(cache, service_file("_nix-cache._tcp", "%h", PORT, "path=/other"))
    client.write_etc("resolv.conf", "nameserver 127.0.0.1\n")
    client.drop_by_default()
    milliseconds = []
    for number in range(9):
        result = client.resolve("--browse", "--json", *options,
                                "--output-dir", str(client.directory / f"out{number}"))
        report = json.loads(result.stdout)
        assert report["origin"] == "announced" and report["port"] == PORT, report
        milliseconds.append(report["milliseconds"])
    print(milliseconds)
    assert statistics.median(milliseconds) < limit, milliseconds


def test_among_web_servers(lan, client):
    """Of the same machine, more than go into one answer; also when the group has just had one."""
    hive = lan.host("hive", 141)
    serve(hive, PORT, "/other")
    announce(hive, *(service_file("_http._tcp", f"page {number}", 80 + number) for number in range(20)),
             service_file("_nix-cache._tcp", "%h", PORT, "path=/other"))
    for number in range(2):
        result = client.resolve("--browse", "--methods", "announced", "--output-dir", str(client.directory / f"out{number}"))
        assert re.search(r"found at 10.77.0.141:8080 by announced in \d\d?(\.\d)? ms\n", result.log), result.log


@pytest.mark.parametrize("named_by", ["mdns", "dns"])
def test_the_named_cache_wins(lan, cache, router, client, named_by):
    """However soon the other one announces itself."""
    hive = lan.host("hive", 142)
    serve(hive, PORT, "/other")
    beacon(hive, text=["path=/other"])
    if named_by == "mdns":
        cache.announce_by_avahi()
        client.write_etc("resolv.conf", "nameserver 127.0.0.1\n")
    else:
        router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    for number in range(5):
        result = client.resolve("--browse", "--output-dir", str(client.directory / f"out{number}"), "--json")
        report = json.loads(result.stdout)
        assert report["origin"] == named_by and report["address"] == cache.address, report
        assert f"http://{cache.address}:9999/system?priority=30 " in report["nix_conf"]


@pytest.mark.parametrize("families", ["IPv4", "IPv6"])
def test_a_cache_is_no_use_to_itself(lan, families):
    """Whether it is the only one that announces itself or not."""
    one, other = (add_host(lan, name, number, families) for name, number in (("one", 50), ("other", 141)))
    for host in (one, other):
        serve(host, PORT, "/")
    announce(one, service_file("_nix-cache._tcp", "%h", PORT), name="one")
    assert_not_found(one.resolve("--browse", "--methods", "announced"), 3)
    announce(other, service_file("_nix-cache._tcp", "%h", PORT), name="other")
    for _ in range(3):
        assert_announced(one.resolve("--browse", "--methods", "announced"), other, PORT, "/")


def test_services_that_are_no_caches(lan, client):
    """A web page that says it is a cache; and one that says nothing of the kind, and is left alone."""
    portal, hive = lan.host("portal", 140), lan.host("hive", 141)
    portal.serve_cache(port=80)
    portal.serve_cache(port=5000)
    announce(portal, service_file("_http._tcp", "portal", 80, "path=/system"),
             service_file("_nix-cache._tcp", "page", 5000, "path=/nothing"), name="portal")
    assert_not_found(client.resolve("--browse", "--methods", "announced"), 3)
    assert portal.requests(80) == [] and len(portal.requests(5000)) > 0
    serve(hive, PORT, "/other")
    announce(hive, service_file("_nix-cache._tcp", "%h", PORT, "path=/other"))
    assert_announced(client.resolve("--browse", "--methods", "announced"), hive, PORT, "/other")
    assert portal.requests(80) == []


PATHS = {
    "fragment": "/a#b", "space": "/a b", "newline": "/a\nsubstituters = http://evil.example", "quote": '/a"b',
    "apostrophe": "/a'b", "query": "/a?trusted=true", "brackets": "/a[b", "backslash": "/a\\b",
    "escape": "/a%23b", "no segment": "/a//b", "dots": "/a/../b",
    "no slash": "a", "another host": "@203.0.113.9/", "65 bytes": "/" + 64 * "x", "not ASCII": "/ä",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_refused(lan, client, path):
    """The server has a cache at every path, and nobody asks it."""
    liar = lan.host("liar", 66)
    liar.serve_cache(port=PORT, extra=ANYTHING)
    beacon(liar, text=[f"path={PATHS[path]}"])
    assert_not_found(client.resolve("--browse", "--methods", "announced"), 3)
    assert liar.requests(PORT) == []


def test_the_longest_path(lan, client):
    """The server of the test above, and that responder, with a path that is allowed."""
    hive, path = lan.host("hive", 66), "/" + 63 * "x"
    hive.serve_cache(port=PORT, extra=ANYTHING)
    beacon(hive, text=[f"path={path}"])
    assert_announced(client.resolve("--browse", "--methods", "announced"), hive, PORT, path)


LOOP = [{"name": name, "hostname": f"{other}._nix-cache._tcp.local", "addresses": []}
        for name, other in (("a", "b"), ("b", "a"), ("c", "c"))]
LIARS = {
    "public addresses": [{"addresses": ["203.0.113.9", "8.8.8.8"]}],
    "a closed port": [{}],
    "port 0": [{"port": 0}],
    "a loop": LOOP,
    "200 instances": [{"name": f"number {n}", "port": 10000 + n, "hostname": f"h{n}.local"} for n in range(200)],
}


@pytest.mark.parametrize("lie", LIARS)
@pytest.mark.alone
def test_liars(lan, router, client, lie):
    """Nothing of it comes into nix.conf, nothing leaves the link, and the cache that is known is found."""
    client.run("ip", "route", "add", "default", "via", router.address)
    beacon(lan.host("liar", 66), *LIARS[lie])
    count(client, "ip daddr { 203.0.113.9, 8.8.8.8 }")
    assert_not_found(client.resolve("--browse", "--methods", "announced"), 5)
    assert counted(client) == 0
    cache = lan.host("cache", 141)
    cache.serve_cache()
    cache.announce_by_avahi()
    result = client.resolve("--browse")
    assert result.address == cache.address and result.seconds < 1, result.log


@pytest.mark.parametrize("path,address", [("/a#b", "10.77.0.66"), ("/", "203.0.113.9")])
def test_lies_in_the_unicast_dns(lan, router, client, path, address):
    liar = lan.host("liar", 66)
    liar.serve_cache(port=PORT, extra=ANYTHING)
    router.serve_dns("--local=/lan/", f"--srv-host=_nix-cache._tcp.lan,hive.lan,{PORT}",
                     f"--txt-record=_nix-cache._tcp.lan,path={path}", f"--host-record=hive.lan,{address}")
    client.write_etc("resolv.conf", f"search lan\nnameserver {router.address}\n")
    client.run("ip", "route", "add", "default", "via", liar.address)
    count(client, f"ip daddr {address} tcp dport {PORT}")
    assert_not_found(client.resolve("--browse", "--methods", "announced"), 4)
    assert counted(client) == 0


def test_the_paths_of_other_networks_are_forgotten(lan, client):
    """Liars have named more than are kept before the machine comes to an honest cache."""
    liar, cache = lan.host("liar", 66), lan.host("cache", 141)
    serve(cache, PORT, "/other")
    watcher = client.start(PROGRAM, "--watch", "--browse", "--methods", "announced", "--budget", "0.5",
                           "--output-dir", client.directory / "out")
    for network in range(6):
        beacon(liar, *({"name": f"{n}", "text": [f"path=/{network}/{n}"], "port": 0} for n in range(16)))
        client.run("ip", "address", "flush", "dev", "eth0")
        client.add_address(f"10.77.0.{100 + network}")
        time.sleep(1.8)  # the change settles, and the search ends
        liar.stop(liar.processes[-1])
    beacon(cache, text=["path=/other"])
    client.run("ip", "address", "flush", "dev", "eth0")
    client.add_address(client.address)
    nix_conf = client.directory / "out/nix.conf"
    wait_until(lambda: f"{cache.address}:{PORT}/other" in nix_conf.read_text(), watcher.log.read_text())


LISTENER = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.bind(("eth0", 3))
print("ready", flush=True)
while True:
    packet, link = s.recvfrom(9000)
    if link[2] == socket.PACKET_OUTGOING and b"WANTED" in packet:
        print("asked", flush=True)
"""


def listen(host, wanted):
    """Whoever sees what a host asks for: a line in the log for each packet."""
    listener = host.start(PYTHON, "-c", LISTENER.replace("WANTED", wanted))
    wait_until(lambda: "ready" in listener.log.read_text(), "listener")
    return listener


def test_one_machine_is_one_for_all_sockets(lan):
    """Who speaks from a link-local address gets no second share, and no more than three questions."""
    liar, client = (add_host(lan, name, number, "IPv6") for name, number in (("liar", 66), ("client", 50)))
    beacon(liar, addresses=[])
    listener = listen(client, r"\4hive\5local")
    assert_not_found(client.resolve("--browse", "--methods", "announced"), 3)
    assert 0 < listener.log.read_text().count("asked") <= 3


def test_nobody_asks_without_the_option(lan, router, client):
    """Not a question for a service, by any method, into the group or to a server."""
    router.serve_dns("--local=/lan/")
    client.write_etc("resolv.conf", f"search lan\nnameserver {router.address}\n")
    listener = listen(client, r"\4_tcp")
    assert client.resolve().nix_conf == FALLBACK
    assert "asked" not in listener.log.read_text()
    client.resolve("--browse")
    wait_until(lambda: listener.log.read_text().count("asked") >= 5, "four types, and the server")
