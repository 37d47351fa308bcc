#!/bin/bash
# A module of dracut: looks for the cache in the initrd, where somebody asks for it (--add cache-resolver).
# See initrd/README.md.

# Where nix/install puts the program; in the initrd, too.
program=/usr/local/bin/cache-resolver

check() {
    require_binaries "$program" || return 1
    return 255
}

# The network module brings up what ip=, rd.neednet=1 or a root over the network ask for, and nothing else.
depends() {
    echo network
}

# Packet sockets, and QEMU's orders.
installkernel() {
    hostonly='' instmods af_packet qemu_fw_cfg
}

# shellcheck disable=SC2154 # dracut sets what it is called with
install() {
    inst_binary "$program"
    # What the program is told in stage 2 it is told here, too.
    inst_multiple -o /etc/default/cache-resolver "/etc/cache-resolver/*-override"
    if dracut_module_included systemd; then
        # Without what an administrator has added to it, such as a sandbox: stage 1 has no users.
        inst_simple "$moddir/cache-resolver.service" "$systemdsystemunitdir/cache-resolver.service"
        inst_simple "$moddir/10-stage1.conf" "$systemdsystemunitdir/cache-resolver.service.d/10-stage1.conf"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd.target cache-resolver.service
    else
        inst_script "$moddir/stage1" /usr/local/lib/cache-resolver/stage1
        inst_hook initqueue/online 50 "$moddir/online.sh"
        inst_hook cleanup 50 "$moddir/end.sh"
    fi
}
