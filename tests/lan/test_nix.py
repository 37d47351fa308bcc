"""Real Nix, of 2022 to this year's, with the nix.conf that was written."""

import base64
import time

import pytest

from dead_cache import break_off, measure
from debian import NIX, at_once, realise
from lan import Lan, PROGRAM, make_binary_cache, wait_until

PRIORITIES = {"cache": 41, "upstream": 40}


@pytest.fixture(scope="module")
def binary_cache(tmp_path_factory):
    """A signed store path in a binary cache: its path, the cache's directory and the public key."""
    (path,), content, public = make_binary_cache(tmp_path_factory.mktemp("binary-cache"))
    return path, content, public


@pytest.fixture(params=NIX, ids=NIX.values())
def release(request):
    """The Debian whose Nix fetches."""
    return request.param


@pytest.fixture
def network(lan, client, binary_cache):
    """A cache and an upstream with the same path, of which Nix by itself prefers the upstream."""
    path, content, public = binary_cache
    hosts = {}
    for number, (name, priority) in enumerate(PRIORITIES.items(), start=141):
        host = hosts[name] = lan.host(name, number)
        host.serve_cache(content, priority=priority)
    return client, hosts["cache"], hosts["upstream"], path, public


def upstream_url(upstream):
    """How the client would know the upstream."""
    return f"http://{upstream.address}:9999/system"


def test_the_lan_cache_is_asked_first(network, release):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    log = realise(client, release, path, public, client.directory / "out/nix.conf")
    assert f"from 'http://{cache.address}:9999/system'" in log.replace("?priority=30", "")


def test_what_our_keys_have_not_signed_is_not_installed(network, release):
    """A false cache is asked all the same, and has nothing that Nix takes."""
    client, cache, _, path, public = network
    # What its name says of the content (CA) needs no signature.
    (info,) = (cache.directory / "cache9999").glob("*.narinfo")
    info.write_text("".join(line for line in info.read_text().splitlines(True) if not line.startswith("CA:")))
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", "daemon")
    nix_conf, asked = client.directory / "out/nix.conf", len(cache.requests())
    name, _ = public.split(":")
    foreign = f"{name}:{base64.b64encode(bytes(range(32))).decode()}"
    assert realise(client, release, path, foreign, nix_conf) is None
    assert len(cache.requests()) > asked
    assert realise(client, release, path, public, nix_conf), "with the right key it is"


def test_without_the_priority_it_would_not_be(network, release):
    client, cache, upstream, path, public = network
    nix_conf = client.directory / "without-priority.conf"
    nix_conf.write_text(
        f"substituters = http://{cache.address}:9999/system {upstream_url(upstream)}\n")
    log = realise(client, release, path, public, nix_conf)
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_is_not_there(network, release):
    client, cache, upstream, path, public = network
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    log = realise(client, release, path, public, client.directory / "out/nix.conf")
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_dies_after_the_choice(network, release):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    cache.stop(cache.nginx)
    log = realise(client, release, path, public, client.directory / "out/nix.conf")
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_breaks_off(network, release):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    break_off(cache)
    log = realise(client, release, path, public, client.directory / "out/nix.conf")
    assert f"from 'http://{cache.address}" in log and f"from '{upstream_url(upstream)}'" in log


@pytest.mark.parametrize("way", ["closed port", "500", "503"])
def test_a_dead_cache_costs_little(lan, binary_cache, way):
    """What ends quickly of the table that tests/bench/dead-cache makes."""
    for release, (ours, static) in measure(lan, way, binary_cache, 60).items():
        print(f"{NIX[release]}: {ours:.1f} s, static list {static:.1f} s")
        assert ours <= static / 2, release


@pytest.mark.alone
def test_after_a_move_nix_hardly_waits(lan, client, cache, binary_cache):
    """The first fetch in a network without the cache, compared with two static substituters."""
    path, content, public = binary_cache
    upstream = f"http://{lan.network[142]}:9999/system"
    client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
    out, once, static = (client.directory / name for name in ("out", "once", "static.conf"))
    # Where nothing watches, the units have Nix give up sooner (initrd/systemd, nix/module.nix).
    client.resolve("--output-dir", once, "--setting", "download-attempts=2", "--upstream", upstream)
    client.start(PROGRAM, "--watch", "--output-dir", out, "--upstream", upstream)
    wait_until(lambda: (out / "waterbug-ip").exists(), "not found at home")
    static.write_text(f"substituters = http://{cache.address}:9999/system {upstream}\n")

    def seconds(release):
        """How long a fetch takes with each of the files."""
        took = []
        for nix_conf in (static, once / "nix.conf", out / "nix.conf"):
            started = time.monotonic()
            assert realise(client, release, path, public, nix_conf)
            took.append(time.monotonic() - started)
        return took
    with Lan() as away:
        away.host("upstream", 142).serve_cache(content, priority=40)
        client.move(away)
        wait_until(lambda: not (out / "waterbug-ip").exists(), "not noticed")
        took = at_once(seconds)
        client.move(lan)
    for release, (plain, without, with_roaming) in took.items():
        print(f"{NIX[release]}: static {plain:.1f} s, without roaming {without:.1f} s, with {with_roaming:.1f} s")
        assert without <= plain / 2 and with_roaming <= plain / 5, took


def test_dead_nameservers_keep_nobody_from_the_upstream(lan, router, cache, binary_cache):
    """curl's time to connect begins with the name, and glibc asks a dead nameserver for five seconds."""
    path, content, public = binary_cache
    upstream = lan.host("upstream", 142)
    upstream.serve_cache(content)
    router.serve_dns(f"--host-record=upstream.lan,{upstream.address}")
    dead = [lan.host(f"dead{number}", number) for number in (2, 3)]
    for host in dead:
        host.drop_by_default()

    def computer(name, number, nameservers, *options):
        """A computer that knows the cache, which has nothing, and the upstream's name."""
        client = lan.host(name, number)
        client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
        client.write_etc("resolv.conf", "".join(f"nameserver {host.address}\n" for host in nameservers))
        client.resolve("--methods", "hosts", "--upstream", "http://upstream.lan:9999/system", *options)
        return client
    clients = {
        "one dead": computer("one", 51, [dead[0], router]),
        "two dead": computer("two", 52, [*dead, router]),
        "five seconds": computer("five", 53, [dead[0], router], "--setting", "connect-timeout=5"),
    }
    cases = [(name, release) for name in clients for release in NIX]
    logs = at_once(lambda case: realise(clients[case[0]], case[1], path, public,
                                        clients[case[0]].directory / "out/nix.conf"), cases)
    assert {case for case, log in logs.items() if log} == {
        case for case in cases if case[0] != "five seconds"}, "with five it has to fail, or this shows nothing"
