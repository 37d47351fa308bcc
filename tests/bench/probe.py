"""What is measured, one function a quantity: time, packets, memory, CPU time, system calls, instructions."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
from statistics import median

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lan"))

from lan import PROGRAM, PYTHON, sh, wait_until  # noqa: E402

# How our own two are compiled: the first has no C library at all.
FLAGS = {"limit": ("-static", "-nostdlib", "-fno-stack-protector"), "link": ()}


def install(packages):
    """Installs the Debian packages whose programs are missing; nothing among them is a daemon that starts."""
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if missing:
        print("installing", *missing, file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def compiled(name, host):
    """The program that `name`.c is, for one host."""
    sh("cc", "-Wall", "-Wextra", "-Werror", "-O2", *FLAGS[name], "-o", host.directory / name, HERE / f"{name}.c")
    return host.directory / name


def ours(*options):
    """The words that run the program, writing to a fresh directory."""
    return [PROGRAM, "--quiet", "--output-dir", "{out}", *options]


class Times:
    """The runs of one command: medians and the worst, in milliseconds."""

    def __init__(self, words, runs):
        self.words, self.walls = words, sorted(runs["wall"])
        self.wall, self.worst, self.cpu = median(self.walls), self.walls[-1], median(runs["cpu"])
        self.statuses = set(runs["status"])


def measure(host, runs, *commands):
    """Times commands on a host, in turns, their files on tmpfs."""
    place = host.directory / "tmpfs"
    place.mkdir(exist_ok=True)
    script = f"mount -t tmpfs tmpfs {place} && exec {PYTHON} {HERE}/measure.py {place}"
    commands = [list(map(str, command)) for command in commands]
    answer = host.run("sh", "-c", script, input=json.dumps({"words": commands, "runs": runs})).stdout
    return [Times(*both) for both in zip(commands, json.loads(answer))]


def run_once(host, *options, before=()):
    """Runs the program under another: what that said."""
    words = [word.replace("{out}", str(host.directory / "once")) for word in ours(*options)]
    shutil.rmtree(host.directory / "once", ignore_errors=True)
    return host.run(*before, *words).stderr


def packets(host, *options):
    """How many packets the host sends during one run."""
    before = host.packets_sent()
    run_once(host, *options)
    time.sleep(0.2)
    return host.packets_sent() - before


def system_calls(host, *options):
    """How often one run makes each system call, and all of them under `total`."""
    path = host.directory / "strace"
    run_once(host, *options, before=("strace", "-f", "-c", "-U", "calls,name", "-o", path))
    return {name: int(calls) for calls, name in re.findall(r"^ +(\d+) (\w+)$", path.read_text(), re.MULTILINE)}


def instructions(host, *options):
    """Whether one run came to ask the neighbours, and how many instructions it executed outside the kernel. Under
    Valgrind, on some machines, DNS and the cache cannot answer before that is due."""
    said = run_once(host, *options, before=("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                                            "--trace-syscalls=yes"))
    return f"sys_socket ( {socket.AF_PACKET:d}," in said, int(re.search(r"Collected : (\d+)", said)[1])


def peak_memory(host, *options):
    """The most that the program had resident, in KiB: read at its end, which strace puts off for a fifth of a
    second."""
    words = [word.replace("{out}", str(host.directory / "memory")) for word in ours(*options)]
    tracer = host.start("strace", "-o", "/dev/null", "-e", "trace=exit_group", "-e",
                        "inject=exit_group:delay_enter=200000", *words)
    peak = 0
    while tracer.poll() is None:
        try:
            child = pathlib.Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().strip()
            place = pathlib.Path("/proc", child)
            # Until it is ours, it is strace.
            if child and os.readlink(place / "exe") == os.path.realpath(PROGRAM):
                peak = int(re.search(r"VmHWM:\s+(\d+)", (place / "status").read_text())[1])
        except (FileNotFoundError, ProcessLookupError, TypeError):
            pass  # it has just ended
        time.sleep(0.01)
    assert peak, "never seen"
    return peak


def watch_traced(host):
    """Starts a watcher: waits for its first check of the cache, and gives how many system calls that takes."""
    path = host.directory / "watcher.strace"
    path.touch()
    # -D: what is ended in the end is the watcher, and strace with it.
    host.start("strace", "-D", "-o", path, PROGRAM, "--output-dir", host.directory / "traced", "--watch")

    def checks():
        # Between two sleeps of most of a minute, searches left out, which ask DNS.
        awake = re.split(r"^ppoll\(.*tv_sec=5\d", path.read_text(), flags=re.MULTILINE)[1:]
        return [part.count("\n") - 1 for part in awake if "htons(9999)" in part and "\nclose(" in part
                and "htons(53)" not in part]

    def first_check():
        wait_until(checks, "the check of a minute", seconds=90)
        time.sleep(1)
        return checks()[0]
    return first_check


def idle_cpu(host, seconds, *options):
    """Microseconds on a CPU in a minute of `--watch`, once the first search is over."""
    process = host.start(PROGRAM, "--output-dir", host.directory / "watched", "--watch", *options)
    wait_until((host.directory / "watched/nix.conf").exists, "the first search")
    time.sleep(2)

    def on_cpu():
        return int(pathlib.Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1000
    before = on_cpu()
    time.sleep(seconds)
    return (on_cpu() - before) * 60 / seconds


def far_away(lan, host, milliseconds, loss=0, seed=1):
    """Puts a link with a delay each way and a loss in percent between a host and the switch of its LAN."""
    near, far = host.port, f"{host.port}f"
    lan.in_switch("ip", "link", "add", far, "type", "veth", "peer", "name", f"{far}s")
    lan.in_switch("ip", "link", "set", f"{far}s", "master", "lan", "up")
    lan.in_switch("ip", "link", "set", far, "up")
    lan.in_switch("ip", "link", "set", near, "nomaster")
    process = subprocess.Popen(
        ["ip", "netns", "exec", lan.switch, compiled("link", host), near, far, str(milliseconds), str(loss), str(seed)],
        stdout=subprocess.PIPE, text=True)
    host.processes.append(process)
    assert process.stdout.readline() == "ready\n", "link"
