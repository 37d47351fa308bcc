"""Every responder that people run, over every family, behind a firewall and without one."""

import json
import shutil
import statistics

import pytest

import forge
from debian import within
from lan import wait_until
from test_names import assert_not_found

LINK_LOCAL = "a link-local address, which Nix cannot use"
LINK_LOCAL_ONLY = f"answers only at {LINK_LOCAL}: give it an IPv4 or ULA address"


def announce_by_resolved(host, name="waterbug"):
    """systemd-resolved of Debian sid, the only program in its root directory; no networkd, no D-Bus."""
    config = host.directory / "resolved.conf"
    config.write_text("[Resolve]\nMulticastDNS=yes\nLLMNR=no\nDNSStubListener=no\n")
    process = host.start("unshare", "--uts", *within(
        "sid", host, "sh", "-c", f"echo {name} >/proc/sys/kernel/hostname &&"
        " mkdir -p /run/systemd /etc/systemd/resolved.conf.d &&"
        f" cp {config} /etc/systemd/resolved.conf.d/zz.conf && export SYSTEMD_LOG_LEVEL=debug &&"
        " exec /usr/lib/systemd/systemd-resolved"))
    for address in host.addresses("global"):
        wait_until(lambda: f" {address} successfully probed" in process.log.read_text(), "resolved")


RESPONDERS = {
    "avahi": lambda host: host.announce_by_avahi(),
    "zeroconf": lambda host: host.announce_by_zeroconf(),
    "mdnsd": lambda host: host.announce_by_mdnsd(),
    "resolved": announce_by_resolved,
}
# Which addresses the hosts have besides a link-local one of IPv6.
FAMILIES = {"IPv4": (True, False), "IPv6": (False, True), "both": (True, True)}


def add_host(lan, name, number, families):
    """A host with a link-local address, and those of the families."""
    has_v4, has_v6 = FAMILIES[families]
    host = lan.host(name, number if has_v4 else None, ipv6=True)
    if has_v6:
        host.run("ip", "address", "add", f"fd77::{number}/64", "dev", "eth0", "nodad")
    return host


def assert_routable(result, host):
    """Found at an address that Nix can use wherever it runs."""
    assert result.address in host.addresses("global"), result.log
    assert "%" not in result.nix_conf and "fe80" not in result.nix_conf


@pytest.mark.parametrize("responder,families", [
    (responder, families) for responder in RESPONDERS for families in FAMILIES
    if (responder, families) != ("mdnsd", "IPv6")])  # it speaks IPv4 alone
def test_responders(lan, responder, families):
    cache = add_host(lan, "cache", 141, families)
    cache.serve_cache()
    RESPONDERS[responder](cache)
    walled = add_host(lan, "walled", 51, families)
    walled.drop_by_default()
    for client in (add_host(lan, "client", 50, families), walled):
        assert_routable(client.resolve("--methods", "mdns"), cache)


def milliseconds(report, text):
    """When an event with this text first stands in a report."""
    return next(entry["milliseconds"] for entry in report["timeline"] if text in entry["event"])


def test_ipv4_behind_a_firewall_every_time(lan):
    """The link-local address is often the first answer, and never the result."""
    cache, client = add_host(lan, "cache", 141, "IPv4"), add_host(lan, "client", 50, "IPv4")
    cache.serve_cache()
    cache.announce_by_avahi()
    client.drop_by_default()
    waits = []
    for _ in range(20):
        result = client.resolve("--methods", "mdns", "--json")
        report = json.loads(result.stdout)
        assert report["address"] == cache.address, report
        waits.append(milliseconds(report, "mdns: chosen") - milliseconds(report, "is a candidate"))
    # From the first answer on; a busy machine may take longer now and then.
    assert statistics.median(waits) < 30 and max(waits) < 500, waits


@pytest.mark.alone
def test_the_ipv4_address_of_a_host_that_announces_a_link_local_one(lan):
    """Met in the sweep, or known by its Ethernet address among the neighbours."""
    cache, client = add_host(lan, "cache", 141, "IPv4"), add_host(lan, "client", 50, "IPv4")
    cache.serve_cache()
    forge.start(cache, "mdns", "6", *cache.addresses("link"))
    assert_not_found(client.resolve("--methods", "mdns"), 5)
    assert client.resolve("--methods", "mdns,sweep").address == cache.address
    shutil.rmtree(client.directory / "out")
    client.run("nc", "-z", "-w1", cache.address, "1", check=False)  # they meet
    result = client.resolve("--methods", "mdns", "--explain", "--verbose")
    assert result.address == cache.address and result.seconds < 1, result.stdout


def test_a_link_local_address_alone(lan):
    """Every method has been tried, and one line says why they were of no use."""
    cache, client = lan.host("cache", ipv6=True), add_host(lan, "client", 50, "both")
    cache.serve_cache()
    cache.announce_by_avahi()
    result = client.resolve()
    assert_not_found(result, 6)
    assert result.status == 0 and result.log.count(LINK_LOCAL_ONLY) == 1, result.log


def test_an_order_with_a_zone(cache, client):
    cache.announce_by_avahi()
    order = client.directory / "override"
    order.write_text("[fe80::1%eth0]:9999\n")
    result = client.resolve("--override", order, "--methods", "mdns")
    assert result.address == cache.address
    refusal = f"{order} holds {LINK_LOCAL}; ignored\ncache-resolver:   give the cache an IPv4 or ULA address\n"
    assert refusal in result.log, result.log
