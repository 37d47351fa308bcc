"""Fixtures for tests in a LAN of namespaces."""

import pytest

from lan import Lan


@pytest.fixture
def lan():
    """An empty LAN."""
    with Lan() as lan:
        yield lan


@pytest.fixture
def cache(lan):
    """A host with a cache, which nobody knows of yet."""
    host = lan.host("cache", 141)
    host.serve_cache()
    return host


@pytest.fixture
def router(lan):
    """A host for a DNS server."""
    return lan.host("router", 1)


@pytest.fixture
def client(lan):
    """The host that looks for the cache; its DNS server is the router."""
    host = lan.host("client", 50)
    host.write_etc("resolv.conf", f"nameserver {lan.network[1]}\n")
    return host
