"""Found by name, through real daemons."""

import os
import shutil
import time

import pytest

from lan import sh, wait_until

FALLBACK = (
    "# Written by cache-resolver. No local cache answered.\n"
    "substituters = https://cache.nixos.org\n"
)


def assert_found(result, cache, origin):
    """The cache was found and both files say so."""
    assert result.address == cache.address, result.log
    url = f"http://{cache.address}:9999/system?priority=30"
    assert f"substituters = {url} https://cache.nixos.org\n" in result.nix_conf
    assert f"by {origin} in" in result.log


def assert_not_found(result, seconds):
    """Nothing was found, soon enough."""
    assert result.address is None and result.nix_conf == FALLBACK, result.log
    assert result.seconds < seconds, result.log


def test_a_record(cache, router, client):
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    assert_found(client.resolve(), cache, "dns")


def test_aaaa_record(lan, router):
    cache = lan.host("cache", 141, ipv6=True)
    client = lan.host("client", 50, ipv6=True)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    for host, address in ((cache, "fd77::141"), (client, "fd77::50")):
        host.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
    cache.serve_cache()
    router.serve_dns("--local=/lan/", "--host-record=waterbug.lan,fd77::141")
    result = client.resolve()
    assert result.address == "fd77::141", result.log
    assert "http://[fd77::141]:9999/system?priority=30 " in result.nix_conf


def test_cname_record(cache, router, client):
    router.serve_dns("--local=/lan/", "--cname=waterbug.lan,hive.lan",
                     f"--host-record=hive.lan,{cache.address}")
    assert_found(client.resolve(), cache, "dns")


def test_aaaa_refused(cache, router, client):
    # Without --local dnsmasq has nobody to ask for AAAA and refuses.
    router.serve_dns(f"--host-record=waterbug.lan,{cache.address}")
    assert_found(client.resolve(), cache, "dns")


def test_truncated_answer_comes_by_tcp(lan, cache, router, client):
    numbers = range(150, 200)
    for number in numbers:
        cache.add_address(lan.network[number])
    router.serve_dns("--local=/lan/",
                     *(f"--host-record=waterbug.lan,{lan.network[number]}" for number in numbers))
    result = client.resolve("--methods", "dns")
    assert result.address in {str(lan.network[number]) for number in numbers}, result.log


def test_second_server_knows_what_the_first_denies(lan, cache, router, client):
    second = lan.host("second", 2)
    router.serve_dns("--local=/lan/")
    second.serve_unbound(f"waterbug.lan. A {cache.address}")
    client.write_etc("resolv.conf", f"nameserver {router.address}\nnameserver {second.address}\n")
    assert_found(client.resolve(), cache, "dns")


def test_hosts_file(cache, client):
    client.write_etc("hosts", f"127.0.0.1 localhost\n{cache.address}\twaterbug.lan waterbug\n")
    assert_found(client.resolve(), cache, "hosts")


def test_avahi_without_dns(cache, client):
    cache.announce_by_avahi()
    assert_found(client.resolve(), cache, "mdns")


def test_zeroconf_without_dns(cache, client):
    cache.announce_by_zeroconf()
    assert_found(client.resolve(), cache, "mdns")


def test_a_responder_that_only_speaks_to_the_group(cache, client):
    """As bonjour-service does: nothing comes back to the port that asked."""
    cache.start("/usr/bin/python3", "-c", (
        "import socket, struct\n"
        "group = socket.inet_aton('224.0.0.251')\n"
        f"own = socket.inet_aton('{cache.address}')\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('', 5353))\n"
        "s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + own)\n"
        "s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)\n"
        "record = b'\\x08waterbug\\x05local\\0' + struct.pack('>HHIH', 1, 0x8001, 120, 4) + own\n"
        "while True:\n"
        "    s.recvfrom(2000)\n"
        "    header = struct.pack('>6H', 0, 0x8400, 0, 1, 0, 0)\n"
        "    s.sendto(header + record, ('224.0.0.251', 5353))\n"))
    cache.wait_for_port(5353, "u")
    assert_found(client.resolve("--methods", "mdns", user=65534), cache, "mdns")


def test_avahi_behind_a_default_drop_firewall(cache, client):
    client.drop_by_default()
    cache.announce_by_avahi()
    assert_found(client.resolve("--methods", "mdns"), cache, "mdns")


def test_the_firewall_does_drop(cache, client):
    """Without the packet socket the same search hears nothing: the test above tests something."""
    client.drop_by_default()
    cache.announce_by_avahi()
    result = client.resolve("--methods", "mdns", user=65534)
    assert_not_found(result, 2.5)
    assert "needs CAP_NET_RAW" in result.log


def test_mdns_over_ipv6_alone(lan):
    cache = lan.host("cache", ipv6=True)
    client = lan.host("client", ipv6=True)
    cache.serve_cache()
    cache.announce_by_avahi()
    for host, address in ((cache, "fd77::141"), (client, "fd77::50")):
        host.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
    result = client.resolve()
    assert result.address == "fd77::141", result.log
    assert "http://[fd77::141]:9999/system?priority=30 " in result.nix_conf


def test_a_link_local_address_is_no_use(lan, router, client):
    """Nix cannot use one: the log says so, and what to do about it."""
    cache = lan.host("cache", ipv6=True)
    client = lan.host("dual", 51, ipv6=True)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    cache.serve_cache()
    cache.announce_by_avahi()
    result = client.resolve()
    assert_not_found(result, 5)
    assert "answers only at a link-local address, which Nix cannot use" in result.log
    # The same host has another address: it is found there, by its Ethernet address.
    cache.add_address(lan.network[141])
    client.run("nc", "-z", "-w", "2", lan.network[141], 9999)
    result = client.resolve("--methods", "mdns,neighbours")
    assert result.address == str(lan.network[141]), result.log


def test_nothing_there_and_dns_says_so(router, client):
    router.serve_dns("--local=/lan/")
    assert_not_found(client.resolve(), 4.5)


def test_nothing_there_and_dns_is_silent(lan, router, client):
    router.run("nft", "-f", "-", input="table inet f { chain input "
               "{ type filter hook input priority 0; udp dport 53 drop\n}\n}\n")
    assert_not_found(client.resolve(), 5.5)


def test_dns_that_lies(cache, router, client):
    """A public address is not even tried; a private one without a cache costs nothing."""
    router.serve_dns("--local=/lan/", "--host-record=waterbug.lan,203.0.113.9")
    result = client.resolve("--methods", "dns")
    assert_not_found(result, 1)
    assert "dns names 203.0.113.9, no private address: to allow it, add it to /etc/hosts" in result.log
    client.write_etc("resolv.conf", f"nameserver {cache.address}\n")
    cache.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{router.address}")
    result = client.resolve("--methods", "dns")
    assert_not_found(result, 1)
    assert "; port 9999 is closed there: start the cache, or check --port" in result.log


# What servers do that want their name: attic, one that redirects to it, and another virtual host.
UNNAMED = {9999: "400", 9998: "301 http://waterbug.lan/", 9997: "200 '<html>Welcome!</html>'"}


@pytest.fixture
def particular(cache):
    """A host with caches that answer to their name alone."""
    cache.stop(cache.nginx)
    for port, answer in UNNAMED.items():
        cache.serve_cache(port=port, extra=f'if ($host != "waterbug.lan") {{ return {answer}; }}')
    return cache


def test_a_cache_that_wants_its_name(particular, router, client):
    """Nix gets it where Nix asks, too: from the servers of resolv.conf, and the hosts file."""
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{particular.address}")
    for methods in ("dns", "hosts"):
        for port in UNNAMED:
            result = client.resolve("--methods", methods, "--port", port)
            assert result.address == particular.address, result.log
            assert f"http://waterbug.lan:{port}/system?priority=30 " in result.nix_conf
        client.write_etc("hosts", f"{particular.address} waterbug.lan\n")


def test_a_cache_whose_name_nix_cannot_resolve(lan, particular, router, client):
    """Multicast DNS is not for Nix, and neither is a DNS server that only we have guessed."""
    particular.announce_by_avahi()
    gateway = lan.host("gateway", 2)
    gateway.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{particular.address}")
    router.serve_dns("--local=/lan/")
    client.run("ip", "route", "add", "default", "via", gateway.address)
    for method in ("dns", "mdns"):
        # The search goes on for a while: nobody waits for a guess.
        result = client.resolve("--methods", f"{method},neighbours", "--explain", "--verbose")
        assert_not_found(result, 5)
        assert f"{method}: {particular.address}:9999 is a candidate" in result.stdout


def test_two_interfaces(lan, cache, client):
    """A name answers on the second of two links."""
    client.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "nobody")
    for interface in ("eth1", "nobody"):
        client.run("ip", "link", "set", interface, "up")
    client.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth1")
    cache.announce_by_avahi()
    assert_found(client.resolve("--methods", "mdns"), cache, "mdns")


@pytest.mark.parametrize("count", [31, 62])
def test_containers_hide_nobody(lan, cache, count):
    """Their ends were there before the cable was."""
    client = lan.host("client", 50, ipv6=True, plugged=False)
    client.run_containers(count)
    client.plug()
    cache.announce_by_avahi()
    time.sleep(4)  # now it only speaks when asked
    assert_found(client.resolve("--methods", "mdns"), cache, "mdns")


def test_containers_are_no_network(lan, cache, router):
    client = lan.host("client", 50, plugged=False)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    client.run_containers(1)
    result = client.resolve("--budget", "2", check=False)
    assert (result.status, result.nix_conf) == (75, FALLBACK), result.log
    process = client.start(*program_words(client))
    time.sleep(2.5)
    client.plug()
    assert process.wait(12) == 0
    assert (client.directory / "out/waterbug-ip").read_text() == f"{cache.address}\n"


@pytest.mark.parametrize("default,status", [(False, 75), (True, 0)])
def test_a_tunnel_is_a_network_if_it_leads_out(lan, default, status):
    client = lan.host("client", plugged=False)
    client.start("/usr/bin/python3", "-c", (
        "import fcntl, os, struct, time\n"
        "f = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(f, 0x400454ca, struct.pack('16sH', b'ppp0', 0x1001))\n"
        "time.sleep(100)\n"))
    wait_until(lambda: "ppp0" in client.run("ip", "link").stdout, "no ppp0")
    client.run("ip", "address", "add", "10.99.0.5", "peer", "10.99.0.1", "dev", "ppp0")
    client.run("ip", "link", "set", "ppp0", "up")
    if default:
        client.run("ip", "route", "add", "default", "dev", "ppp0")
    result = client.resolve("--budget", "5", check=False)
    assert (result.status, result.nix_conf) == (status, FALLBACK), result.log


# What RestrictAddressFamilies= does to a unit that is not to open AF_UNIX.
WITHOUT_UNIX = """
import ctypes, os, platform, socket, struct, sys
number = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
rules = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, socket.AF_UNIX),
         (0x06, 0, 0, 0x00050000 | 97), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
try:
    socket.socket(socket.AF_UNIX)
    sys.exit('AF_UNIX is not refused')
except OSError:
    os.execv(sys.argv[1], sys.argv[1:])
"""


def test_zones_in_the_sandbox(lan, cache):
    """The names of interfaces are known without a socket that the unit may not open."""
    router, client = lan.host("router", ipv6=True), lan.host("client", 50, ipv6=True)
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    router.run("ip", "address", "add", "fe80::53/64", "dev", "eth0", "nodad")
    client.write_etc("resolv.conf", "nameserver fe80::53%eth0\n")
    result = client.run("/usr/bin/python3", "-c", WITHOUT_UNIX, *program_words(client),
                        "--methods", "dns", "--explain", "--verbose")
    assert f"found at {cache.address}" in result.stdout, result.stdout + result.stderr


def test_the_kernel_has_nothing_to_complain_of(cache, client):
    """It logs requests that are longer than it expects, with the program's name."""
    program = client.directory / f"cr{os.getpid()}x{time.monotonic_ns() % 10**6}"
    shutil.copy(program_words(client)[0], program)
    client.resolve("--methods", "mdns,neighbours", program=program)
    assert program.name[:15] not in sh("dmesg").stdout


def test_garbage_from_the_dns_port(cache, client, router):
    """Noise, then silence: the budget holds and mDNS still wins."""
    router.start("/usr/bin/python3", "-c", (
        "import socket, os\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('0.0.0.0', 53))\n"
        "while True:\n"
        "    query, peer = s.recvfrom(2000)\n"
        "    for reply in (b'', os.urandom(400), query, query[:2] + b'\\x81\\x80' + b'\\xff' * 60):\n"
        "        s.sendto(reply, peer)\n"))
    router.wait_for_port(53, "u")
    assert_not_found(client.resolve("--methods", "dns"), 4.5)
    cache.announce_by_avahi()
    assert_found(client.resolve(), cache, "mdns")


def test_unprivileged(cache, router, client):
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    assert_found(client.resolve(user=65534), cache, "dns")


def test_a_second_run_confirms_the_first(cache, router, client):
    dns = router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    assert_found(client.resolve(), cache, "dns")
    router.stop(dns)
    assert_found(client.resolve(), cache, "previous")
    # The cache dies: the next run says so.
    cache.stop(cache.nginx)
    assert_not_found(client.resolve(), 5)


@pytest.mark.parametrize("seconds", [0, 2, 5])
@pytest.mark.alone
def test_the_network_comes_late(lan, cache, router, seconds):
    router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{cache.address}")
    client = lan.host("client", 50, plugged=False)
    client.write_etc("resolv.conf", f"nameserver {router.address}\n")
    started = time.monotonic()
    process = client.start(*program_words(client))
    time.sleep(seconds)
    client.plug()
    assert process.wait(12) == 0
    assert (client.directory / "out/waterbug-ip").read_text() == f"{cache.address}\n"
    assert time.monotonic() - started < seconds + 1.5


@pytest.mark.alone
def test_the_network_never_comes(lan):
    client = lan.host("client", plugged=False)
    result = client.resolve("--budget", "2", check=False)
    assert (result.status, result.nix_conf) == (75, FALLBACK)
    assert 1.7 < result.seconds < 2.2


def program_words(host):
    """The command line for a run in the background."""
    from lan import PROGRAM
    return [PROGRAM, "--output-dir", host.directory / "out"]
