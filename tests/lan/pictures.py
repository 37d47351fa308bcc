"""The two runs that README.md has pictures of."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from lan import PROGRAM, Lan

# Of the terminal in the pictures.
COLUMNS = 80
OPTIONS = "--host attic.home.arpa --port 8080 --path /main --explain"
# A server that wants a login, as a private cache does.
PRIVATE = "location /main/ { return 401; }"


def found(lan):
    """A cache whose name the router knows."""
    cache = lan.host("attic", 141)
    cache.serve_cache(port=8080, extra=f"location /main/ {{ alias {cache.directory}/cache8080/; }}")
    return ["--address=/attic.home.arpa/10.77.0.141"]


def not_found(lan):
    """A cache whose name nobody knows, and which wants a login; and two hosts that have nothing to do with it."""
    lan.host("attic", 141).serve_cache(port=8080, extra=PRIVATE)
    lan.host("printer", 20)
    lan.host("television", 21)
    return ["--address=/home.arpa/"]


SCENES = {"found": found, "not-found": not_found}


def run_scene(name):
    """What a terminal shows, escape sequences and all."""
    with Lan() as lan:
        router = lan.host("router", 1)
        client = lan.host("client", 50)
        client.write_etc("resolv.conf", f"nameserver {router.address}\n")
        client.run("ip", "route", "add", "default", "via", router.address)
        router.serve_dns(*SCENES[name](lan))
        return f"$ cache-resolver {OPTIONS}\n{_in_terminal(client)}"


def words(text):
    """A text without what differs between two runs: durations, and how wide their column is."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[\d.]+( m?s)?-[\d.]+ m?s|[\d.]+ m?s\b", "TIME", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _in_terminal(host):
    """What the program prints where its standard output is a terminal."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
    # In a /run of its own.
    command = f"mount -t tmpfs tmpfs /run && exec {PROGRAM} {OPTIONS}"
    process = subprocess.Popen(["ip", "netns", "exec", host.namespace, "env", "-u", "XDG_RUNTIME_DIR",
                                "sh", "-c", command], stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.DEVNULL,
                               env=dict(os.environ, TERM="xterm"))
    os.close(terminal)
    said = b""
    while True:
        try:
            said += os.read(master, 65536)
        except OSError:  # EIO: it has ended
            break
    os.close(master)
    process.wait()
    return said.decode().replace("\r\n", "\n")
