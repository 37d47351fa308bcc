"""A virtual machine in a LAN: QEMU, without KVM, with Debian's guest agent to run commands in it."""

import base64
import itertools
import json
import os
import pathlib
import socket
import subprocess
import time

from lan import REPOSITORY, sh, wait_until

# Emulated: a boot takes half a minute here, and on a busy machine several times that.
BOOT_SECONDS = 240
IMAGES = pathlib.Path(os.environ.get("VM_IMAGES") or REPOSITORY / "target/vm")
COUNTER = itertools.count()
OF_EVERY_MACHINE = ("-accel", "tcg,thread=multi", "-smp", "2", "-nodefaults", "-no-user-config",
                    "-no-reboot", "-display", "none")
# What differs: QEMU's options, and the name of the console.
ARCHITECTURES = {
    "x86_64": (("-cpu", "max"), "ttyS0"),
    # Without pauth-impdef half of the time goes into signing pointers.
    "aarch64": (("-machine", "virt", "-cpu", "max,pauth-impdef=on"), "ttyAMA0"),
}


def minimal(arch="x86_64"):
    """The smallest initrd, and our overlay for it."""
    return (IMAGES / arch / "minimal.cpio",
            REPOSITORY / "target/initrd" / arch / "cache-resolver.cpio.gz")


class Peer:
    """Somebody at a UNIX socket who speaks JSON, one object a line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rwb")

    def ask(self, request, seconds=60, expected=None, **arguments):
        """Asks, and returns the answer; events in between are not for us, and nor, where a certain
        answer is `expected`, are those that somebody before us did not wait for."""
        self.socket.settimeout(seconds)
        words = {"execute": request, "arguments": arguments}
        self.file.write(json.dumps(words).encode() + b"\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise RuntimeError(f"{request}: {answer['error']}")
            if "return" in answer and expected in (None, answer["return"]):
                return answer["return"]


class Machine:
    """A virtual machine that boots at once; its only network card is plugged into `lan`."""

    def __init__(self, lan, name="vm", append="", initrd="debian.cpio", plugged=True, memory="1200M",
                 qemu=()):
        self.lan = lan
        self.directory = lan.directory / name
        self.directory.mkdir()
        self.log_path = self.directory / "console"
        self.port = f"t{os.getpid()}x{next(COUNTER)}"
        lan.in_switch("ip", "tuntap", "add", "dev", self.port, "mode", "tap")
        lan.in_switch("ip", "link", "set", self.port, "master", "lan", "up")
        with open(self.directory / "qemu", "w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", lan.switch, "qemu-system-x86_64",
                 *OF_EVERY_MACHINE, *ARCHITECTURES["x86_64"][0], "-m", memory,
                 "-kernel", IMAGES / "x86_64/kernel", "-initrd", IMAGES / initrd,
                 "-append", f"console=ttyS0 panic=-1 {append}",
                 "-serial", f"file:{self.log_path}",
                 "-netdev", f"tap,id=lan,ifname={self.port},script=no,downscript=no",
                 "-device", "virtio-net-pci,netdev=lan,mac=52:54:00:00:00:50,romfile=",
                 "-device", "virtio-serial-pci",
                 "-chardev", f"socket,id=agent,path={self.directory}/agent,server=on,wait=off",
                 "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                 "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off", *qemu],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.started = time.monotonic()
        lan.hosts.append(self)
        wait_until((self.directory / "qmp").exists, "QEMU")
        self.monitor = Peer(self.directory / "qmp")
        self.monitor.ask("qmp_capabilities")
        self.agent = None
        if not plugged:
            self.set_link(False)

    @property
    def console(self):
        """What the machine has written to its console."""
        return self.log_path.read_text(errors="replace")

    def set_link(self, up):
        """Plugs the cable in, or out."""
        self.monitor.ask("set_link", name="lan", up=up)

    def move(self, to):
        """Takes the machine to another LAN."""
        self.set_link(False)
        self.lan.in_switch("ip", "link", "set", self.port, "netns", to.switch)
        to.in_switch("ip", "link", "set", self.port, "master", "lan", "up")
        self.lan = to
        self.set_link(True)

    def wait_for_agent(self):
        """Waits until commands can be run."""
        def answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU has ended: {(self.directory / 'qemu').read_text()}")
            try:
                agent, number = Peer(self.directory / "agent"), next(COUNTER)
                agent.ask("guest-sync", 2, expected=number, id=number)
            except (TimeoutError, OSError):
                return False
            self.agent = agent
            return True
        wait_until(answers, f"no agent: {self.console[-3000:]}", BOOT_SECONDS)

    def begin(self, command):
        """Starts a command; `end` says what became of it."""
        if self.agent is None:
            self.wait_for_agent()
        return self.agent.ask("guest-exec", path="/bin/sh", arg=["-c", command],
                              **{"capture-output": True})["pid"]

    def end(self, pid, seconds=60):
        """Waits for a command: its exit status and all that it has said."""
        status = {}

        def has_exited():
            status.update(self.agent.ask("guest-exec-status", pid=pid))
            return status["exited"]
        wait_until(has_exited, "a command in the machine", seconds)
        said = "".join(base64.b64decode(status.get(key, "")).decode(errors="replace")
                       for key in ("out-data", "err-data"))
        return status.get("exitcode", -1), said

    def run(self, command, check=True, seconds=60):
        """Runs a command: all that it has said."""
        code, said = self.end(self.begin(command), seconds)
        if check and code != 0:
            raise AssertionError(f"{command}: exit status {code}: {said}")
        return said

    def wait_for(self, command, seconds=60):
        """Waits until a command succeeds: the seconds that took."""
        started = time.monotonic()
        wait_until(lambda: self.end(self.begin(command))[0] == 0, command, seconds)
        return time.monotonic() - started

    def close(self):
        """Switches it off."""
        self.process.terminate()
        self.process.wait(10)


def boot(host, initrd, append="", qemu=(), memory="256M", arch="x86_64", seconds=BOOT_SECONDS):
    """Boots a machine in QEMU's user network on `host` until it switches itself off: its console."""
    name = f"boot{next(COUNTER)}"
    image, console = host.directory / f"{name}.initrd", host.directory / f"{name}.console"
    with open(image, "wb") as file:
        for part in initrd:
            file.write(pathlib.Path(part).read_bytes())
    machine, terminal = ARCHITECTURES[arch]
    process = host.start(
        f"qemu-system-{arch}", *OF_EVERY_MACHINE, *machine, "-m", memory,
        "-kernel", IMAGES / arch / "kernel", "-initrd", image,
        "-append", f"console={terminal} panic=-1 loglevel=4 {append}", "-serial", f"file:{console}",
        # With IPv6 a machine that DHCP does not answer would still have an address.
        "-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile=", *qemu)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still runs: {console.read_text(errors='replace')[-3000:]}") from None
    finally:
        host.stop(process)
    return console.read_text(errors="replace").replace("\r", "")


def build_images():
    """Makes what machines boot from."""
    sh(REPOSITORY / "tests/vm/build-root", IMAGES)
    for arch in ARCHITECTURES:
        sh(REPOSITORY / "tests/vm/build-minimal", IMAGES, arch)
        sh(REPOSITORY / "initrd/build", arch)
