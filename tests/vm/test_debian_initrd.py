"""Initrds made with Debian's dracut and initramfs-tools, which have been asked for our program."""

import re

import pytest

from vm import BOOT_SECONDS, IMAGES, Machine, archive

KINDS = ("dracut", "dracut-systemd", "initramfs-tools")
DISK = ("-drive", f"if=virtio,format=raw,snapshot=on,file={IMAGES}/initrd/root.ext4")
# `patient`, and the hook of dracut's below: the boot waits for nobody; for what is found in stage 1 to be certain,
# this one has to: 20 s at most.
APPEND = "root=/dev/vda rw systemd.journald.forward_to_kmsg=1 systemd.journald.max_level_kmsg=info"
NETWORK = "ip=dhcp rd.neednet=1"
WAIT = {"usr/lib/dracut/hooks/pre-pivot/50-wait.sh": """tries=0
while [ ! -e /run/cache-resolver/waterbug-ip ] && [ $tries -lt 100 ]; do
    sleep 0.2
    tries=$((tries + 1))
done
"""}
# What stage 1 may take with us, for each second without us, and seconds besides: what it takes differs by as much
# from boot to boot, emulated. The program would wait for its network for a minute.
LONGER_MAX, LATER_MAX = 1.3, 4


def image(name):
    return IMAGES / f"initrd/{name}.img"


def report(machine):
    """What stage 2 says of what stage 1 has left, once the machine has switched itself off."""
    machine.process.wait(BOOT_SECONDS)
    console = machine.console.replace("\r", "")
    said = re.search(r"<report>\n(.*)</report>", console, re.DOTALL)
    assert said, console[-3000:]
    assert "left running: \n" in said[1], "the program does not outlive stage 1"
    return said[1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_stage_1_finds_is_there_in_stage_2(home, kind):
    home.cache.serve_cache()
    initrd = [image(kind)]
    if kind != "initramfs-tools":
        initrd.append(archive(home.directory, WAIT))
    said = report(Machine(home, append=f"{APPEND} {NETWORK} patient", initrd=initrd, qemu=DISK))
    cache = f"{home.cache.address}:9999"
    assert f"\nsubstituters = http://{cache}/system?priority=30 https://cache.nixos.org\n" in said, said
    assert f"/run/cache-resolver/waterbug-ip:\n{home.cache.address}\n" in said, said
    assert f"found at {cache}" in said and "\ndownload-attempts = 2\n" in said, said


# In dracut's script nobody calls us before there is a network.
@pytest.mark.alone
@pytest.mark.parametrize("kind", ("dracut-systemd", "initramfs-tools"))
def test_without_a_network_the_boot_is_as_fast_as_without_us(home, kind):
    # Both at once, for what else the computer does.
    machines = [Machine(home, name, f"{APPEND} modprobe.blacklist=virtio_net", [image(name)], qemu=DISK)
                for name in (kind, f"{kind}-without")]
    ours, without = (report(machine) for machine in machines)
    assert "cache-resolver" not in without.replace("/run/cache-resolver/*", ""), without
    if kind == "initramfs-tools":
        assert "nothing in this initramfs has brought a network up" in ours, ours
    took = [float(re.search(r"stage 1 took ([\d.]+)", said)[1]) for said in (ours, without)]
    print(f"{kind}: stage 1 took {took[0]} s, without us {took[1]} s")
    assert took[0] < took[1] * LONGER_MAX + LATER_MAX, ours
