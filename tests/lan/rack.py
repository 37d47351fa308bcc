"""Starts the program in many namespaces at the same moment, and says how each run has ended.

    rack.py <OPTIONS

It runs in the namespace of one of them, whose /etc it has for all. Options and results are JSON.
"""

import ctypes
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    """Makes a namespace that of this process, and so of those that it starts."""
    with open(pathlib.Path("/run/netns", namespace)) as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), namespace)


def prepare(host, go):
    """Brings up a host's link, and has a shell wait there for the moment at which it becomes the program."""
    enter(host["namespace"])
    pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    lines = f"link set lo up\nlink set eth0 up\naddress replace {host['address']} brd + dev eth0\n"
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
    return subprocess.Popen(["sh", "-c", 'read go; exec "$@" </dev/null', "sh", *host["words"]],
                            stdin=go, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def main():
    """Prepares all, lets all go, and waits for all."""
    options = json.load(sys.stdin)
    go, starter = os.pipe()
    runs = [prepare(host, go) for host in options["hosts"]]
    time.sleep(options["settle"])
    results = [None] * len(runs)

    def wait(number, run, started):
        said = run.stdout.read()
        results[number] = {"status": run.wait(), "seconds": time.monotonic() - started, "said": said}
    started = time.monotonic()
    waiting = [threading.Thread(target=wait, args=(number, run, started)) for number, run in enumerate(runs)]
    for thread in waiting:
        thread.start()
    os.close(starter)
    for thread in waiting:
        thread.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
