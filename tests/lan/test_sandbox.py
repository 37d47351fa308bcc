"""What the program gives up: who takes it over by what he sends gains little."""

import errno
import os
import re
import signal
import socket
import struct

import pytest

from lan import PROGRAM, wait_until
from ptrace import Hijacked

# Numbers of system calls on x86_64 (`asm/unistd_64.h`), and the arguments' constants.
CALLS = dict(
    open=2, mmap=9, mprotect=10, ioctl=16, socket=41, setsockopt=54, clone=56, fork=57, execve=59, kill=62,
    truncate=76, rename=82, mkdir=83, link=86, unlink=87, symlink=88, chmod=90, fchown=93, ptrace=101, geteuid=107,
    prctl=157, mount=165, init_module=175, openat=257, fchmodat=268, unshare=272, prlimit64=302, memfd_create=319,
    bpf=321, execveat=322, io_uring_setup=425)
AT_FDCWD = -100
PROT_READ_WRITE, PROT_EXEC = 3, 4
PRIVATE_ANONYMOUS = 0x22
X32 = 0x40000000
FORBIDDEN = (errno.EPERM, errno.EACCES)
# The capabilities that are left: CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_NET_RAW.
CAPABILITIES = 0x200A
# How files are read, and made.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
TMPFILE = 0x410000
NEW_USER = 0x10000000
# The status of a program that the trap ends.
TRAPPED = 128 + signal.SIGSYS


class Waiting:
    """The program as it waits for a network, and where it may write."""

    def __init__(self, host, *before):
        self.directory = host.directory / "out"
        self.process = host.start(
            "env", "-u", "CACHE_RESOLVER_TRAP", *before, PROGRAM, "--budget", 60, "--output-dir", self.directory)
        self.pid = self.process.pid
        wait_until(self.is_waiting, "it waits in ppoll(2)")

    def is_waiting(self):
        """Whether it is the program, confined, in its loop."""
        try:
            with open(f"/proc/{self.pid}/syscall") as call, open(f"/proc/{self.pid}/status") as status:
                return call.read().startswith("271 ") and "Seccomp:\t2" in status.read()
        except OSError:
            return False

    def status(self, key):
        """A line of its status, proc_pid_status(5)."""
        return re.search(rf"^{key}:\s+(.*)$", open(f"/proc/{self.pid}/status").read(), re.M)[1]

    def limit(self, name):
        """One of its limits, the soft one and the hard one, proc_pid_limits(5)."""
        return re.search(rf"^{name} +(\S+) +(\S+)", open(f"/proc/{self.pid}/limits").read(), re.M).group(1, 2)


@pytest.fixture
def alone(lan):
    """A host without a cable."""
    return lan.host("alone", plugged=False)


def forbidden(directory):
    """What one who has taken over a program may want, as calls."""
    elsewhere = bytes(directory / "elsewhere") + b"\0"
    made = bytes(directory / "made") + b"\0"
    beside = bytes(directory / "out/beside") + b"\0"
    ours = bytes(directory / "out/ours") + b"\0"
    out = bytes(directory / "out") + b"\0"
    write = os.O_WRONLY
    yield "run a program", "execve", b"/bin/true\0", 0, 0
    yield "run a program by its descriptor", "execveat", 0, b"\0", 0, 0, 0x1000
    yield "write to a file elsewhere", "openat", AT_FDCWD, elsewhere, write, 0
    yield "write to a file elsewhere by open(2)", "open", elsewhere, write, 0
    yield "make a file elsewhere", "openat", AT_FDCWD, made, MAKE, 0o644
    yield "empty a file elsewhere", "openat", AT_FDCWD, elsewhere, os.O_RDONLY | os.O_TRUNC, 0
    yield "empty one as it is read", "openat", AT_FDCWD, elsewhere, READ | os.O_TRUNC, 0
    yield "make a program of its user", "openat", AT_FDCWD, beside, MAKE, 0o4755
    yield "make a file for all", "openat", AT_FDCWD, beside, MAKE, 0o666
    yield "make one without a name", "openat", AT_FDCWD, out, TMPFILE | os.O_WRONLY, 0o644
    # The upper half of a mode, which the kernel ignores, must not stand for flags.
    yield "write to a file of ours", "openat", AT_FDCWD, ours, write | os.O_CLOEXEC, MAKE << 16 | 0o644
    yield "make one without a name and hide it", "openat", AT_FDCWD, out, TMPFILE | write, MAKE << 16 | 0o644
    yield "give a file away", "fchown", 0, 1000, 1000
    yield "take a file's user", "fchown", 0, -1, -1
    yield "cut a file", "truncate", elsewhere, 0
    yield "remove a file elsewhere", "unlink", elsewhere
    yield "move a file elsewhere", "rename", elsewhere, made
    yield "give it another name", "link", elsewhere, made
    yield "link to it", "symlink", elsewhere, made
    yield "make a directory elsewhere", "mkdir", made, 0o755
    yield "let all write", "chmod", elsewhere, 0o777
    yield "have a program set its user", "fchmodat", AT_FDCWD, elsewhere, 0o4777
    yield "speak to daemons", "socket", socket.AF_UNIX, socket.SOCK_STREAM, 0
    yield "speak to the kernel's audit", "socket", socket.AF_NETLINK, socket.SOCK_RAW, 9
    yield "send any packet", "socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW
    yield "speak to another machine", "socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0
    yield "mark packets", "setsockopt", 3, socket.SOL_SOCKET, socket.SO_MARK, struct.pack("i", 1), 4
    yield "read another process", "ptrace", 16, 1, 0, 0
    yield "end another process", "kill", 1, 0
    yield "make a thread", "clone", 0x10F00, 0, 0, 0, 0
    yield "make a child with all capabilities", "clone", NEW_USER | signal.SIGCHLD, 0, 0, 0, 0
    yield "make a process", "fork"
    yield "make a namespace", "unshare", NEW_USER
    yield "run what it has written", "mmap", 0, 4096, PROT_READ_WRITE | PROT_EXEC, PRIVATE_ANONYMOUS, -1, 0
    yield "run what it writes", "mprotect", 0, 4096, PROT_EXEC
    yield "make a file without a name", "memfd_create", b"x\0", 0
    yield "mount", "mount", b"none\0", b"/mnt\0", b"tmpfs\0", 0, 0
    yield "load a module", "init_module", b"\0", 1, b"\0"
    yield "load a filter", "bpf", 5, b"\0" * 128, 128
    yield "make calls past the filter", "io_uring_setup", 1, b"\0" * 128
    yield "raise its limits", "prlimit64", 0, 7, struct.pack("QQ", 4096, 4096), 0
    yield "type on a terminal", "ioctl", 0, 0x5412, b"x"
    yield "dump", "prctl", 4, 1


def test_one_who_has_taken_it_over_gains_little(alone):
    (alone.directory / "elsewhere").write_text("theirs")
    program = Waiting(alone)
    (program.directory / "ours").touch()
    with Hijacked(program.pid) as hijacked:
        for wish, name, *arguments in forbidden(alone.directory):
            for number in (CALLS[name], CALLS[name] | X32):
                given = hijacked.call(number, *arguments)
                assert -given in FORBIDDEN, f"{wish}: {name} gives {given}"
        # What a search needs: so the calls really are made.
        assert hijacked.call(CALLS["geteuid"]) == os.geteuid()
        assert hijacked.call(CALLS["socket"], socket.AF_INET, socket.SOCK_DGRAM, 0) > 0
        opened = hijacked.call(CALLS["openat"], AT_FDCWD, b"/etc/hosts\0", READ, 0)
        assert opened > 0
        path = bytes(program.directory / "file") + b"\0"
        assert hijacked.call(CALLS["openat"], AT_FDCWD, path, MAKE, 0o644) > 0
        assert hijacked.call(CALLS["unlink"], path) == 0
    assert (alone.directory / "elsewhere").read_text() == "theirs"
    assert not (alone.directory / "made").exists()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(5) == 0, "it goes on as if nothing had happened"
    assert "substituters" in (program.directory / "nix.conf").read_text()


def test_what_it_has_given_up(alone):
    program = Waiting(alone, "prlimit", "--nofile=4096", "--fsize=unlimited", "--")
    assert program.status("NoNewPrivs") == "1"
    for kind, left in (("CapPrm", CAPABILITIES), ("CapEff", CAPABILITIES), ("CapInh", 0), ("CapAmb", 0)):
        assert int(program.status(kind), 16) == left, kind
    assert program.limit("Max open files") == ("512", "512")
    # Its log is a file here, which may be longer.
    assert program.limit("Max file size") == ("unlimited", "unlimited")


def test_in_another_users_directory_nothing_is_given_away(alone):
    """There is no call and no capability for that."""
    (alone.directory / "out").mkdir()
    os.chown(alone.directory / "out", 1000, 1000)
    program = Waiting(alone)
    for kind in ("CapPrm", "CapEff"):
        assert int(program.status(kind), 16) == CAPABILITIES, kind
    secret = alone.directory / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    with Hijacked(program.pid) as hijacked:
        opened = hijacked.call(CALLS["openat"], AT_FDCWD, bytes(secret) + b"\0", READ, 0)
        assert opened > 0 and -hijacked.call(CALLS["fchown"], opened, 1000, 1000) in FORBIDDEN
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(5) == 0
    assert "substituters" in (program.directory / "nix.conf").read_text()


@pytest.mark.parametrize("kind", ["file", "link that leads nowhere"])
def test_without_a_directory_it_may_write_nowhere(alone, kind):
    """It says so, and ends with status 1."""
    if kind == "file":
        (alone.directory / "out").write_text("no directory")
    else:
        (alone.directory / "out").symlink_to("/proc/nowhere")
    program = Waiting(alone)
    made = bytes(alone.directory / "made") + b"\0"
    with Hijacked(program.pid) as hijacked:
        assert -hijacked.call(CALLS["openat"], AT_FDCWD, made, MAKE, 0o644) in FORBIDDEN
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(5) == 1


def test_what_an_ordinary_user_has_given_up(alone):
    alone.directory.chmod(0o777)
    program = Waiting(alone, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                      "sh", "-c", 'exec "$0" "$@" >/dev/null 2>&1')
    assert program.limit("Max processes") == ("0", "0")
    assert program.limit("Max file size") == ("65536", "65536")


def test_a_trapped_call_is_named(alone):
    program = Waiting(alone, "env", "CACHE_RESOLVER_TRAP=1")
    with Hijacked(program.pid) as hijacked:
        hijacked.leave_to(CALLS["ptrace"], 0, 0, 0, 0)
    assert program.process.wait(5) == TRAPPED
    assert f"system call {CALLS['ptrace']:04} is not allowed" in program.process.log.read_text()


@pytest.mark.parametrize("call, number", [
    ("capget", 125), ("capset", 126), ("prctl", 157), ("landlock_create_ruleset", 444), ("landlock_add_rule", 445),
    ("landlock_restrict_self", 446), ("seccomp", 317), ("prlimit64", None)])
def test_a_kernel_that_has_less(alone, call, number):
    """It goes on, and says so to whoever wants to hear everything."""
    (alone.directory / "none").write_text("none\n")
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:error=ENOSYS", PROGRAM,
             "--override", alone.directory / "none", "--output-dir", alone.directory / "out"]
    assert alone.run(*words).stderr.count("confined") == 0
    said = alone.run(*words, "--verbose").stderr
    told = re.findall(r"not wholly confined: system call (\d+) failed\n", said)
    assert told == ([] if number is None else [str(number)]), said
    assert "substituters" in (alone.directory / "out/nix.conf").read_text()


def test_a_unit_that_has_left_no_more(alone):
    """Its SystemCallFilter forbids capset(2), for which there is nothing to do."""
    alone.directory.chmod(0o777)
    (alone.directory / "none").write_text("none\n")
    said = alone.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw",
        "strace", "-qq", "-o", "/dev/null", "-e", "inject=capset:error=EPERM", PROGRAM, "--verbose",
        "--override", alone.directory / "none", "--output-dir", alone.directory / "out").stderr
    assert "confined" not in said and "override none" in said, said


def test_what_is_appended_to_a_long_log_is_not_lost(alone):
    (alone.directory / "none").write_text("none\n")
    log = alone.directory / "long"
    log.write_bytes(b"x" * 100_000)
    alone.run("sh", "-c", f"{PROGRAM} --override {alone.directory}/none --output-dir {alone.directory}/out"
              f" --explain >>{log} 2>&1")
    assert b"NOT FOUND" in log.read_bytes()[100_000:]
