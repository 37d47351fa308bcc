"""The overlay in the smallest initrd there is, in QEMU's user network: nothing is configured."""

import pytest

from elf import assert_static_pie
from lan import REPOSITORY, sh
from vm import ARCHITECTURES, IMAGES, Report, minimal

# Milliseconds from the program's start. 350 and 4,500 are promised where the computer that
# emulates has nothing else to do; what is printed shows them.
FOUND_MAX = 700
NOT_FOUND_MAX = 6000
# Milliseconds that stage 1 spends with us, and bytes.
HOOK_MAX = 200
OVERLAY_MAX = 96 * 1024


@pytest.mark.alone
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_overlay_is_small_and_always_the_same(arch):
    overlay = minimal(arch)[1]
    first = overlay.read_bytes()
    sh(REPOSITORY / "initrd/build", arch)
    assert overlay.read_bytes() == first
    assert len(first) <= OVERLAY_MAX and len(first) % 4 == 0, "what stands behind it is found"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_program_is_a_static_pie(arch):
    assert_static_pie(REPOSITORY / "target/initrd" / arch / "cache-resolver")


@pytest.mark.alone
def test_found_as_the_gateway_without_any_configuration(host):
    host.serve_cache()
    report = Report(host, "lacks=hurry")
    assert report.names_cache == "http://10.0.2.2:9999/system", report.text
    assert report.logged(5, "found at 10.0.2.2:9999 by gateway"), report.text
    assert report.status == 0
    assert report.hook_milliseconds <= HOOK_MAX, "the boot waits for nobody"
    print(f"found in {report.milliseconds:.0f} ms of the machine's time, emulated")
    assert report.milliseconds <= FOUND_MAX


def test_found_on_another_architecture(host):
    host.serve_cache()
    report = Report(host, arch="aarch64")
    assert report.names_cache == "http://10.0.2.2:9999/system", report.text
    assert report.logged(5, "found at 10.0.2.2:9999 by gateway"), report.text


def test_in_an_initrd_that_another_linux_boots_by_kexec(host):
    host.serve_cache()
    parts = (IMAGES / "x86_64/minimal.cpio", IMAGES / "x86_64/foreign.cpio")
    report = Report(host, parts=parts, memory="512M")
    assert report.names_cache == "http://10.0.2.2:9999/system", report.text
    assert report.logged(5, "found at 10.0.2.2:9999 by gateway"), report.text


def test_in_front_of_the_other_initrd_too(host):
    host.serve_cache()
    report = Report(host, parts=minimal()[::-1])
    assert report.names_cache == "http://10.0.2.2:9999/system", report.text


@pytest.mark.alone
def test_not_found_when_nothing_listens(host):
    report = Report(host, "lacks=hurry")
    assert report.is_fallback and report.status == 0, report.text
    print(f"not found in {report.milliseconds:.0f} ms of the machine's time, emulated")
    assert report.milliseconds <= NOT_FOUND_MAX


CHANNELS = {
    "command line": lambda order: (f"cache-resolver.override={order}", ()),
    "fw_cfg": lambda order: ("", ("-fw_cfg", f"name=opt/cache-resolver/override,string={order}")),
}


@pytest.mark.parametrize("channel", CHANNELS)
def test_an_order_from_outside(host, channel):
    host.serve_cache(port=8080)
    append, qemu = CHANNELS[channel]("10.0.2.2:8080")
    report = Report(host, append, qemu)
    assert report.names_cache == "http://10.0.2.2:8080/system", report.text
    assert report.logged(5, "by override")


@pytest.mark.parametrize("order, outcome", [
    ("none", "fallback"), ("10.0.2.77", "fallback"), ("[fd00::1]:9999", "fallback"),
    ("waterbug", "discovered")])
def test_what_orders_there_may_be(host, order, outcome):
    host.serve_cache()
    report = Report(host, f"cache-resolver.override={order}")
    assert report.status == 0
    if outcome == "fallback":
        assert report.is_fallback, report.text
    else:
        assert report.names_cache == "http://10.0.2.2:9999/system", report.text
        assert report.logged(3, "/proc/cmdline holds none of IP")


@pytest.mark.parametrize("lacks, status, found", [
    ("proc", 0, True), ("sys", 0, True), ("proc,sys", 0, True), ("fw_cfg", 0, True),
    ("run", 0, True), ("waiting", 0, True), ("writing", 1, False), ("driver", 75, False),
    ("dhcp", 75, False)])
def test_what_a_machine_may_lack(host, lacks, status, found):
    host.serve_cache()
    # With IPv6 a machine that DHCP does not answer would still have an address.
    report = Report(host, f"lacks={lacks}" + " ipv6.disable=1" * (lacks == "dhcp"))
    assert report.status == status, report.text
    assert (report.names_cache == "http://10.0.2.2:9999/system") == found, report.text
    if status == 75:
        assert report.is_fallback and report.logged(5, "no network ("), report.text
    if status == 1:
        assert report.logged(3, "cannot write /run/cache-resolver"), report.text


@pytest.mark.alone
def test_a_gateway_that_accepts_and_hangs(host):
    host.start("nc", "-lk", "127.0.0.1", "9999")
    report = Report(host)
    assert report.is_fallback and report.status == 0, report.text
    assert report.milliseconds <= 8000
