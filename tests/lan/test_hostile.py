"""A packet must not cost the budget: liars who send the most expensive ones as fast as they can.

A machine that is busy with other things is late, too, and that is not the program's fault. So the
program and whoever measures it run at real-time priority, where the machine allows it, and the best of a few
runs counts: what the program does wrong it does in each of them.
"""

import contextlib
import os
import pathlib
import signal
import statistics
import time

import pytest

from lan import PROGRAM, PYTHON, sh, wait_until

pytestmark = pytest.mark.alone

HOSTILE = pathlib.Path(__file__).with_name("hostile.py")
# What the program promises, in seconds.
LATE_MAX = 0.1
STOP_MAX = 0.05
RUNS = 3
BUDGET = 1  # less than any method needs to finish


@contextlib.contextmanager
def real_time():
    """Runs this process, and what it starts, before all ordinary ones."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pass  # some containers: then the best run has to do
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def best(run, bound):
    """The least of a few runs, no more than are needed to keep the bound."""
    results = []
    while len(results) < RUNS and (not results or min(results) >= bound):
        with real_time():
            results.append(run())
    print(results)
    return min(results)


def seconds_late(client, *options):
    """How long after its budget the program ends."""
    result = client.resolve("--budget", BUDGET, *options)
    assert result.address is None, result.log
    assert result.seconds > BUDGET / 2, f"ended before its budget: {result.log}"
    return result.seconds - BUDGET


def seconds_to_stop(client, *options):
    """How long the program takes to end after SIGTERM in the middle of a flood."""
    process = client.start(PROGRAM, "--budget", 20, "--output-dir", client.directory / "out", *options)
    time.sleep(0.7)  # it listens everywhere by now
    assert process.poll() is None, process.log.read_text()
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    status = process.wait()
    seconds = time.monotonic() - started
    client.stop(process)
    assert status == 0
    return seconds


@pytest.fixture
def liar(lan, client):
    """A host with many addresses. The links carry its packets whole: that costs it less, and the
    packet socket hears them, too."""
    host = lan.host("liar", 200)
    for number in range(201, 208):
        host.add_address(str(lan.network[number]))
    for other in (client, host):
        carry_whole(lan, other, "eth0", other.port)
    return host


def carry_whole(lan, host, interface, port):
    """Has a link carry the largest packets without cutting them up."""
    lan.in_switch("ip", "link", "set", port, "mtu", "65535")
    host.run("ip", "link", "set", interface, "mtu", "65535")


def attack(liar, *words):
    """Starts the attacker."""
    process = liar.start(PYTHON, HOSTILE, *words)
    wait_until(lambda: "ready" in process.log.read_text(), process.log.read_text())
    return process


def ask_liars(lan, client, liar, size, count=8, also=""):
    """Has the client ask `count` lying DNS servers, and then another."""
    liars = [str(lan.network[200 + number]) for number in range(count)]
    client.write_etc("resolv.conf", "".join(f"nameserver {address}\n" for address in [*liars, *also]))
    attack(liar, "dns", size, *liars)


@pytest.mark.parametrize("size", [32000, 4096])
def test_lying_dns_servers(lan, client, liar, size):
    ask_liars(lan, client, liar, size)
    assert best(lambda: seconds_late(client, "--methods", "dns"), LATE_MAX) < LATE_MAX
    assert best(lambda: seconds_to_stop(client, "--methods", "dns"), STOP_MAX) < STOP_MAX


@pytest.mark.parametrize("size", [32000, 9000, 1472])
def test_a_flood_of_multicast(client, liar, size):
    attack(liar, "mdns", size, liar.address)
    assert best(lambda: seconds_late(client), LATE_MAX) < LATE_MAX
    assert best(lambda: seconds_to_stop(client), STOP_MAX) < STOP_MAX


def test_a_flood_on_many_interfaces(lan, client, liar):
    for number in range(1, 32):
        interface, port = f"eth{number}", f"{client.port}-{number}"
        sh("ip", "link", "add", interface, "netns", client.namespace, "type", "veth",
           "peer", "name", port, "netns", lan.switch)
        lan.in_switch("ip", "link", "set", port, "master", "lan", "up")
        carry_whole(lan, client, interface, port)
        client.run("ip", "link", "set", interface, "up")
        client.run("ip", "address", "add", f"10.78.{number}.1/24", "dev", interface)
    attack(liar, "mdns", 9000, liar.address)
    assert best(lambda: seconds_late(client), LATE_MAX) < LATE_MAX
    # How full the queues are when the signal comes is a matter of luck, so that one run says little.
    def usual_seconds_to_stop():
        return statistics.median(seconds_to_stop(client) for _ in range(2 * RUNS - 1))

    assert best(usual_seconds_to_stop, STOP_MAX) < STOP_MAX


@pytest.mark.parametrize("size", [32000, 4096])
def test_the_honest_one_is_heard(lan, cache, router, client, liar, size):
    router.serve_dns(f"--host-record=waterbug.lan,{cache.address}")
    ask_liars(lan, client, liar, size, count=7, also=[router.address])
    attack(liar, "mdns", min(2 * size, 9000), liar.address)

    def seconds():
        result = client.resolve()
        assert result.address == cache.address, result.log
        return result.seconds
    assert best(seconds, 0.5) < 0.5
