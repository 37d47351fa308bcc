"""Real Nix with the nix.conf that was written."""

import pathlib
import shutil
import time

import pytest

from lan import Lan, PROGRAM, PYTHON, make_binary_cache, wait_until

PRIORITIES = {"cache": 41, "upstream": 40}


@pytest.fixture(scope="module")
def binary_cache(tmp_path_factory):
    """A signed store path in a binary cache: its path, the cache's directory and the public key."""
    (path,), content, public = make_binary_cache(tmp_path_factory.mktemp("binary-cache"))
    return path, content, public


@pytest.fixture
def network(lan, client, binary_cache):
    """A cache and an upstream with the same path, of which Nix by itself prefers the upstream."""
    path, content, public = binary_cache
    hosts = {}
    for number, (name, priority) in enumerate(PRIORITIES.items(), start=141):
        host = hosts[name] = lan.host(name, number)
        host.serve_cache(content, priority=priority)
    return client, hosts["cache"], hosts["upstream"], path, public


def realise(client, path, public, nix_conf):
    """Has a fresh Nix fetch the path: from where, and did it get it."""
    home = client.directory / "nix"
    (home / "etc").mkdir(parents=True, exist_ok=True)
    (home / "etc/nix.conf").write_text(
        f"trusted-public-keys = {public}\nsandbox = false\nbuild-users-group =\n"
        f"!include {nix_conf}\n")
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(home), "NIX_CONF_DIR": str(home / "etc"),
        "NIX_CACHE_HOME": str(home / "cache"), "XDG_CACHE_HOME": str(home / "cache"),
        "NIX_REMOTE": f"local?root={home}/root",
    }
    result = client.run("nix-store", "-r", path, env=environment, check=False)
    copied = (home / "root").joinpath(*pathlib.Path(path).parts[1:]).exists()
    assert copied == (result.returncode == 0), result.stderr
    return result.stderr if copied else None


def upstream_url(upstream):
    """How the client would know the upstream."""
    return f"http://{upstream.address}:9999/system"


def test_the_lan_cache_is_asked_first(network):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    log = realise(client, path, public, client.directory / "out/nix.conf")
    assert f"from 'http://{cache.address}:9999/system'" in log.replace("?priority=30", "")


def test_without_the_priority_it_would_not_be(network):
    client, cache, upstream, path, public = network
    nix_conf = client.directory / "without-priority.conf"
    nix_conf.write_text(
        f"substituters = http://{cache.address}:9999/system {upstream_url(upstream)}\n")
    log = realise(client, path, public, nix_conf)
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_is_not_there(network):
    client, cache, upstream, path, public = network
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    log = realise(client, path, public, client.directory / "out/nix.conf")
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_dies_after_the_choice(network):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    cache.stop(cache.nginx)
    log = realise(client, path, public, client.directory / "out/nix.conf")
    assert f"from '{upstream_url(upstream)}'" in log


def spoil(cache, script):
    """Has something else answer where the cache was."""
    cache.stop(cache.nginx)
    cache.start(PYTHON, "-c", "import http.server, pathlib, sys\n"
                "class Handler(http.server.BaseHTTPRequestHandler):\n"
                f"    def do_GET(self):\n        {script}\n"
                "http.server.ThreadingHTTPServer(('', 9999), Handler).serve_forever()")
    cache.wait_for_port(9999, "t")


def test_the_upstream_serves_when_ours_answers_500(network):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    spoil(cache, "self.send_error(500)")
    log = realise(client, path, public, client.directory / "out/nix.conf")
    assert f"from '{upstream_url(upstream)}'" in log


def test_the_upstream_serves_when_ours_breaks_off(network):
    client, cache, upstream, path, public = network
    cache.announce_by_avahi()
    client.resolve("--methods", "mdns", "--upstream", upstream_url(upstream))
    # Everything is right but NARs, of which it sends one half.
    root = cache.directory / "cache9999"
    spoil(cache, f"body = pathlib.Path('{root}', self.path.removeprefix('/system/')).read_bytes();"
                 " self.send_response(200); self.send_header('Content-Length', len(body));"
                 " self.end_headers();"
                 " self.wfile.write(body[:len(body) // 2] if '/nar/' in self.path else body)")
    log = realise(client, path, public, client.directory / "out/nix.conf")
    assert f"from 'http://{cache.address}" in log and f"from '{upstream_url(upstream)}'" in log


def test_after_a_move_nix_hardly_waits(lan, network, binary_cache):
    """The first fetch in a network without the cache, compared with two static substituters."""
    client, cache, upstream, path, public = network
    _, content, _ = binary_cache
    client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
    out, once, static = (client.directory / name for name in ("out", "once", "static.conf"))
    options = ("--upstream", upstream_url(upstream))
    # Where nothing watches, the units have Nix give up sooner (initrd/systemd, nix/module.nix).
    client.resolve("--output-dir", once, "--setting", "download-attempts=2", *options)
    client.start(PROGRAM, "--watch", "--output-dir", out, *options)
    wait_until(lambda: (out / "waterbug-ip").exists(), "not found at home")
    static.write_text(
        f"substituters = http://{cache.address}:9999/system {upstream_url(upstream)}\n")
    with Lan() as away:
        elsewhere = away.host("upstream", 142)
        elsewhere.serve_cache(content, priority=40)
        client.move(away)
        wait_until(lambda: not (out / "waterbug-ip").exists(), "not noticed")
        seconds = []
        for nix_conf in (static, once / "nix.conf", out / "nix.conf"):
            shutil.rmtree(client.directory / "nix", ignore_errors=True)
            started = time.monotonic()
            assert realise(client, path, public, nix_conf)
            seconds.append(time.monotonic() - started)
        client.move(lan)
    print("static, without roaming, with roaming:", *(f"{s:.1f} s" for s in seconds))
    assert seconds[1] <= seconds[0] / 2 and seconds[2] <= seconds[0] / 5, seconds
