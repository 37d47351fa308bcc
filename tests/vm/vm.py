"""A virtual machine in a LAN: QEMU, without KVM, with Debian's guest agent to run commands in it."""

import base64
import itertools
import json
import os
import pathlib
import re
import socket
import subprocess
import time

from debian import NIX
from lan import REPOSITORY, sh, wait_until

# Emulated: a boot takes half a minute here, and on a busy machine ten times that.
BOOT_SECONDS = 480
# How often the journal is read again, a second apart, while it moves.
JOURNAL_TRIES = 30
# What is done in a few seconds there, where nobody else wants the computer.
COMMAND_SECONDS = 180
IMAGES = pathlib.Path(os.environ.get("VM_IMAGES") or REPOSITORY / "target/vm")
COUNTER = itertools.count()
# Puts the unit's own times back where a test is about those: what build-root adds becomes empty.
AS_INSTALLED = {"etc/systemd/system/cache-resolver.service.d/20-patient.conf": ""}
# What machines boot as a rule: systemd 257, Nix 2.26.
ORDINARY = IMAGES / "trixie.cpio"
# The console is slow: the kernel's warnings and what has failed are enough. What an update leaves to the next boot
# (hwdb, ldconfig, the journal's catalog) takes some seconds.
OF_SYSTEMD = "systemd.show_status=error systemd.condition_needs_update=no"
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


def join(directory, parts):
    """An initrd of these archives, one after the other."""
    if len(parts) == 1:
        return parts[0]
    path = directory / f"initrd{next(COUNTER)}"
    with open(path, "wb") as file:
        for part in parts:
            file.write(pathlib.Path(part).read_bytes())
    return path


def archive(directory, files):
    """An initrd of files, for the end of another."""
    place = directory / f"archive{next(COUNTER)}"
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    sh("sh", "-c", "find . | cpio --quiet -o -H newc >../$0.cpio", place.name, cwd=place)
    return directory / f"{place.name}.cpio"


class Machine:
    """A virtual machine that boots at once; its only network card is plugged into `lan`, or, where
    there is a `host`, into QEMU's user network there."""

    def __init__(self, lan, name="vm", append="", initrd=(ORDINARY,), plugged=True,
                 memory="1200M", qemu=(), host=None):
        self.lan = lan
        self.directory = lan.directory / name
        self.directory.mkdir()
        self.log_path = self.directory / "console"
        namespace, network = host and host.namespace, "user"
        if not host:
            self.port = f"t{os.getpid()}x{next(COUNTER)}"
            lan.in_switch("ip", "tuntap", "add", "dev", self.port, "mode", "tap")
            lan.in_switch("ip", "link", "set", self.port, "master", "lan", "up")
            namespace, network = lan.switch, f"tap,ifname={self.port},script=no,downscript=no"
        with open(self.directory / "qemu", "w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "qemu-system-x86_64",
                 *OF_EVERY_MACHINE, *ARCHITECTURES["x86_64"][0], "-m", memory,
                 "-kernel", IMAGES / "x86_64/vmlinux", "-initrd", join(self.directory, initrd),
                 "-append", f"console=ttyS0 panic=-1 loglevel=4 {OF_SYSTEMD} {append}",
                 "-serial", f"file:{self.log_path}",
                 "-netdev", f"{network},id=lan",
                 "-device", "virtio-net-pci,netdev=lan,mac=52:54:00:00:00:50,romfile=",
                 "-device", "virtio-serial-pci",
                 "-chardev", f"socket,id=agent,path={self.directory}/agent,server=on,wait=off",
                 "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                 "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off", *qemu],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.started = time.monotonic()
        lan.hosts.append(self)
        self.monitor = self.agent = None

        def listens():
            try:
                self.monitor = Peer(self.directory / "qmp")
            except OSError:
                return False
            return True
        wait_until(listens, "QEMU")
        self.monitor.ask("qmp_capabilities")
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

    def end(self, pid, seconds=COMMAND_SECONDS):
        """Waits for a command: its exit status and all that it has said."""
        status = {}

        def has_exited():
            status.update(self.agent.ask("guest-exec-status", pid=pid))
            return status["exited"]
        wait_until(has_exited, "a command in the machine", seconds)
        said = "".join(base64.b64decode(status.get(key, "")).decode(errors="replace")
                       for key in ("out-data", "err-data"))
        return status.get("exitcode", -1), said

    def run(self, command, check=True, seconds=COMMAND_SECONDS):
        """Runs a command: all that it has said."""
        code, said = self.end(self.begin(command), seconds)
        if check and code != 0:
            raise AssertionError(f"{command}: exit status {code}: {said}")
        return said

    def wait_for(self, command, seconds=COMMAND_SECONDS):
        """Waits until a command succeeds: the seconds that took."""
        started = time.monotonic()
        wait_until(lambda: self.end(self.begin(command))[0] == 0, command, seconds)
        return time.monotonic() - started

    def wait_for_boot(self):
        """Waits until everything that belongs to the boot has been started, or has failed."""
        self.run("systemctl is-system-running --wait", check=False, seconds=BOOT_SECONDS)

    def configure(self, public, upstream):
        """What the machine's administrator writes: cache.nixos.org is out of reach here."""
        self.run(f"""
            echo 'OPTIONS="--upstream {upstream}"' >/etc/default/cache-resolver
            sed -i '1i substituters = {upstream}\nextra-trusted-public-keys = {public}' /etc/nix/nix.conf
            systemctl restart cache-resolver.service cache-resolver-watch.service""")
        self.wait_for(f"grep -q {upstream} /run/cache-resolver/nix.conf")
        self.wait_for_daemon()

    def wait_for_daemon(self):
        """Waits until nix-daemon has read the nix.conf that there is now."""
        self.wait_for(
            "[ $(stat -c %Y /run/cache-resolver/nix.conf) -le"
            " $(stat -c %Y /proc/$(systemctl show -P MainPID nix-daemon.service)) ]")

    def fetch(self, path):
        """Has the daemon fetch a store path for an ordinary user: from where."""
        said = self.run(
            f"nix-store --delete {path} >/dev/null 2>&1;"
            " setpriv --reuid=nobody --regid=nix-users --clear-groups"
            f" env HOME=/tmp NIX_REMOTE=daemon nix-store -r {path}")
        return re.search(r"from '(.*)'", said)[1].removesuffix("?priority=30")

    def journal(self, *units):
        """The log of units, each line with its time since boot.

        While the journal moves from /run to /var, right after boot, it reads as truncated and empty.
        """
        words = "journalctl -b -o short-monotonic " + " ".join(f"-u {u}" for u in units)
        for _ in range(JOURNAL_TRIES):
            self.run("journalctl --flush && journalctl --sync")
            said = self.run(words)
            if "is truncated" not in said:
                break
            time.sleep(1)  # it is being moved to the disk
        return said

    def close(self):
        """Switches it off."""
        self.process.terminate()
        self.process.wait(10)


def boot(host, initrd, append="", qemu=(), memory="256M", arch="x86_64", seconds=BOOT_SECONDS):
    """Boots a machine in QEMU's user network on `host` until it switches itself off: its console."""
    console = host.directory / f"console{next(COUNTER)}"
    machine, terminal = ARCHITECTURES[arch]
    process = host.start(
        f"qemu-system-{arch}", *OF_EVERY_MACHINE, *machine, "-m", memory,
        "-kernel", IMAGES / arch / "vmlinux", "-initrd", join(host.directory, initrd),
        "-append", f"console={terminal} panic=-1 loglevel=4 {append}", "-serial", f"file:{console}",
        "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", *qemu)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still runs: {console.read_text(errors='replace')[-3000:]}") from None
    finally:
        host.stop(process)
    return console.read_text(errors="replace").replace("\r", "")


class Report:
    """What the smallest machine says of itself, after a boot in QEMU's user network."""

    def __init__(self, host, append="", qemu=(), parts=None, arch="x86_64", memory="256M"):
        console = boot(host, parts or minimal(arch), append, qemu, memory, arch)
        report = re.search(r"<report>\n(.*)</report>", console, re.DOTALL)
        assert report, console[-3000:]
        self.text = report[1]
        self.status = int(re.search(r"^status (\d+)", self.text, re.MULTILINE)[1])
        took = re.search(r"cache-resolver: (?:found .*? in|no .*?|stopped after) \(?([\d.]+) (m?s)\b", self.text)
        self.milliseconds = took and float(took[1]) * {"ms": 1, "s": 1000}[took[2]]
        uptimes = re.search(r"^hook from ([\d.]*) to ([\d.]*)$", self.text, re.MULTILINE)
        self.hook_milliseconds = uptimes[1] and 1000 * (float(uptimes[2]) - float(uptimes[1]))

    @property
    def names_cache(self):
        """The substituter that was found."""
        found = re.search(r"^substituters = (http:\S+)\?priority=30 https://cache.nixos.org$",
                          self.text, re.MULTILINE)
        return found and found[1]

    @property
    def is_fallback(self):
        """Whether nix.conf is there and names nothing but the upstream."""
        return "\nsubstituters = https://cache.nixos.org\n" in self.text

    def logged(self, level, *words):
        """Whether one line of the kernel's log, and one only, has these words, at this level."""
        lines = [line for line in self.text.splitlines()
                 if line.startswith("<") and all(word in line for word in words)]
        # The facility is the kernel's or the user's.
        return len(lines) == 1 and int(re.match(r"<(\d+)>", lines[0])[1]) % 8 == level


def build_images():
    """Makes what machines boot from."""
    for arch in ARCHITECTURES:
        sh(REPOSITORY / "initrd/build", arch)
        sh(REPOSITORY / "tests/vm/build-minimal", IMAGES, arch)
    # build-root installs the program that initrd/build has brought up to date.
    for release in NIX:
        sh(REPOSITORY / "tests/vm/build-root", IMAGES, release)
    for script in ("build-foreign", "build-iso", "build-initrd"):
        sh(REPOSITORY / "tests/vm" / script, IMAGES)
