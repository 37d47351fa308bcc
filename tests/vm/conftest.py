"""Fixtures for tests in virtual machines."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lan"))

from lan import Lan, make_binary_cache  # noqa: E402


def pytest_sessionstart(session):
    """Makes what machines boot from, once for all workers."""
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        from vm import build_images
        build_images()


@pytest.fixture(scope="session")
def binary_cache(tmp_path_factory):
    """Signed store paths, a cache's directory with them, the public key."""
    return make_binary_cache(tmp_path_factory.mktemp("binary-cache"), 4)


@pytest.fixture
def host():
    """The host of virtual machines in QEMU's user network: its loopback is 10.0.2.2 in there."""
    with Lan() as lan:
        yield lan.host("host")


@pytest.fixture
def home():
    """A LAN with DHCP, a cache, an upstream, and a DNS server that knows both."""
    with Lan() as lan:
        furnish(lan)
        lan.cache = lan.host("cache", 141)
        lan.serve_names(lan.cache.address)
        yield lan


@pytest.fixture
def away():
    """The same without the cache."""
    with Lan() as lan:
        furnish(lan)
        lan.serve_names(None)
        yield lan


def furnish(lan):
    """Puts a router and an upstream into a LAN; `serve_names` then begins its DNS and DHCP."""
    lan.router, lan.upstream, lan.cache = lan.host("router", 1), lan.host("upstream", 142), None

    def serve_names(cache):
        names = [f"--host-record=waterbug.lan,{cache}"] if cache else []
        lan.router.serve_dns("--local=/lan/", "--dhcp-range=10.77.0.50,10.77.0.60,1h",
                             "--dhcp-authoritative", "--no-ping", *names)
    lan.serve_names = serve_names
