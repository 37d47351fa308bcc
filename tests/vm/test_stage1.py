"""The overlay in a distribution's own initrd, with systemd in it; then Nix in stage 2."""

import pytest

from vm import IMAGES, Machine, archive, minimal

CACHE = "http://10.0.2.2:9999/system"
UPSTREAM = "http://10.0.2.2:8080/system"
# Dracut's network; a root file system that forgets.
APPEND = "root=/dev/vda rw ip=dhcp rd.neednet=1"
DISK = ("-drive", f"if=virtio,format=raw,snapshot=on,file={IMAGES}/trixie.ext4")
# A hook of dracut's before the switch to stage 2. The boot waits for nobody; for what is found in stage 1 to be
# certain, this one has to: 20 s at most.
HOOK = {"usr/lib/dracut/hooks/pre-pivot/50-wait.sh": """tries=0
while [ ! -e /run/cache-resolver/waterbug-ip ] && [ $tries -lt 100 ]; do
    sleep 0.2
    tries=$((tries + 1))
done
"""}


@pytest.mark.parametrize("proxy", [True, False], ids=["proxy", "none"])
def test_what_stage_1_finds_nix_uses_in_stage_2(host, binary_cache, proxy):
    paths, content, public = binary_cache
    host.serve_dns("--address=/#/")
    host.serve_cache(content, port=8080, priority=40)
    if proxy:
        host.serve_cache(content)
    initrd = (IMAGES / "dracut.img", minimal()[1], *([archive(host.directory, HOOK)] if proxy else []))
    machine = Machine(host.lan, append=APPEND, initrd=initrd, qemu=DISK, host=host)
    machine.wait_for_boot()

    # The switch to stage 2 ends the unit, and waits for nothing. (When the unit began, there may have been no
    # journal yet.)
    log = machine.journal("cache-resolver", "initrd-switch-root", "nix-daemon")
    stage1, stage2 = log.split("Starting initrd-switch-root.service", 1)
    assert " cache-resolver[" in stage1 and "Stopped cache-resolver.service" in stage1, log
    if proxy:
        assert "found at 10.0.2.2:9999 by gateway" in stage1, log
        assert "found at 10.0.2.2:9999 by previous" in stage2, log
    else:
        assert "found at" not in log and "no cache here" in stage2, log
    assert stage2.index("Finished cache-resolver.service") < stage2.index("Started nix-daemon.service")

    machine.configure(public, UPSTREAM)
    assert machine.fetch(paths[0]) == (CACHE if proxy else UPSTREAM)
