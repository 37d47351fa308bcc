"""Tests run beside others where pytest-xdist has workers (-n 2), but for those that are marked `alone`."""

import fcntl

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: it measures time, or changes what others use: nothing runs beside it")


def pytest_collection_modifyitems(items):
    """Those that run alone come last: nobody waits for them but each other."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.fixture(autouse=True)
def company(request):
    """Any number hold the lock together, or one that runs alone."""
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH)
        yield
