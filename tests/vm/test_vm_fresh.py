"""nix/vm-fresh, with CDs in the place of NixOS's, and something in the place of nixos-anywhere."""

import os
import re
import signal
import subprocess

import pytest

from lan import Lan, REPOSITORY, wait_until
from vm import BOOT_SECONDS, IMAGES

SSH = (f"ssh -q -i {IMAGES}/ssh-key -p 22222 -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
       " root@127.0.0.1")


class Fresh:
    """A computer in a LAN on which nix/vm-fresh runs."""

    def __init__(self, lan):
        self.host = lan.host("host", 50)
        self.host.write_etc("resolv.conf", f"nameserver {lan.router.address}\n")
        self.directory = self.host.directory
        self.disk = self.directory / "disk,1.qcow2"
        self.temporary, self.tools = self.directory / "tmp", self.directory / "bin"
        self.temporary.mkdir()
        self.tools.mkdir()

    def start(self, *options, iso="greeting.iso", installer="true"):
        """Starts it; `installer` is what nixos-anywhere does when its arguments are recorded."""
        stands_in = self.tools / "nixos-anywhere"
        stands_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{self.directory}/words\n{installer}\n')
        stands_in.chmod(0o755)
        self.process = self.host.start(
            "env", f"PATH={self.tools}:{os.environ['PATH']}", f"TMPDIR={self.temporary}",
            REPOSITORY / "nix/vm-fresh", "--accelerator", "tcg", "--memory", "1500M", "--disk-size", "1G",
            "--iso", IMAGES / iso, "--disk", self.disk, "griefling", *options)

    @property
    def said(self):
        """All that it has said."""
        return self.process.log.read_text()

    @property
    def words(self):
        """What nixos-anywhere was called with, or None."""
        path = self.directory / "words"
        return path.read_text().splitlines() if path.exists() else None

    def wait_for(self, words):
        """Waits until it has said something."""
        wait_until(lambda: words in self.said or self.process.poll() is not None, words, BOOT_SECONDS)
        assert words in self.said, self.said

    def wait_for_installer(self):
        """Waits until nixos-anywhere runs."""
        wait_until(lambda: self.words or self.process.poll() is not None, "nixos-anywhere", BOOT_SECONDS)
        assert self.words, self.said

    def end(self):
        """Waits for its end, and for nothing to be left behind: its exit status."""
        try:
            status = self.process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said) from None
        assert self.left_behind() == [], self.said
        return status

    def processes(self, name=""):
        """The processes on the host, or those of a certain name."""
        found = []
        for pid in self.host.run("ip", "netns", "pids", self.host.namespace).stdout.split():
            try:
                with open(f"/proc/{pid}/comm") as file:
                    found += [int(pid)] if name in file.read() else []
            except FileNotFoundError:
                pass
        return found

    def left_behind(self):
        """Processes, listening sockets, temporary files."""
        pids = [pid for pid in self.processes() if pid != self.process.pid]
        sockets = self.host.run("ss", "-Hltun").stdout.split("\n")
        return pids + [line for line in sockets if line] + list(self.temporary.iterdir())


@pytest.fixture
def lan():
    """A LAN with a cache that answers to its name over mDNS only, which no virtual machine hears, and a
    DNS server that knows nothing."""
    with Lan() as lan:
        lan.cache, lan.router = lan.host("cache", 141), lan.host("router", 1)
        lan.router.serve_dns("--address=/#/")
        lan.cache.announce_by_avahi()
        yield lan


@pytest.fixture
def fresh(lan):
    """A computer there."""
    return Fresh(lan)


def test_the_machine_fetches_from_the_cache(lan, fresh, binary_cache):
    (path, *_), content, public = binary_cache
    lan.cache.serve_cache(content)
    go_on = fresh.directory / "go-on"
    fresh.start("--flake", "/etc/nixos", "--extra-files", "/a b", "--", "--phases", "disko,install", iso="debian.iso",
                installer=f"{SSH} 'cat /run/cache-resolver/nix.conf; nix-store -r {path}"
                          f" --option extra-trusted-public-keys {public}' 2>&1; echo fetched;"
                          f" while [ ! -e {go_on} ]; do sleep 0.2; done; exit 3")
    fresh.wait_for("fetched")
    for socat in fresh.processes("socat"):
        os.kill(socat, signal.SIGKILL)
    go_on.touch()
    assert fresh.end() == 3, "also without its proxy"
    assert "the cache is at 10.77.0.141:9999; the machine finds it as 10.0.2.2:9999" in fresh.said
    assert "substituters = http://10.0.2.2:9999/system?priority=30 https://cache.nixos.org" in fresh.said
    assert re.search(rf"copying path '{path}' from 'http://10.0.2.2:9999/system", fresh.said), fresh.said
    assert fresh.words == [
        "--flake", "/etc/nixos#griefling", "--ssh-port", "22222", "--extra-files", "/a b",
        "--phases", "disko,install", "root@127.0.0.1"]
    assert "the proxy has ended" in fresh.said
    assert "switched off" not in fresh.said, "the machine had files to write"
    assert fresh.disk.exists()


def test_without_a_cache_the_machine_falls_back(fresh):
    fresh.start(iso="debian.iso", installer=f"{SSH} cat /run/cache-resolver/nix.conf; {SSH} reboot; sleep 1")
    assert fresh.end() == 0, fresh.said
    assert "no cache here: the machine fetches from its upstream" in fresh.said
    assert "\nsubstituters = https://cache.nixos.org\n" in fresh.said
    assert fresh.words == ["--flake", ".#griefling", "--ssh-port", "22222", "root@127.0.0.1"]


def test_a_cache_with_another_name_and_port(lan, fresh, binary_cache):
    (path, *_), content, public = binary_cache
    lan.router.stop(lan.router.processes[0])
    lan.router.serve_dns("--local=/lan/", f"--host-record=hive.lan,{lan.cache.address}")
    lan.cache.serve_cache(content, port=8080)
    fresh.start("--cache", "hive.lan:8080/system", iso="debian.iso",
                installer=f"{SSH} 'cat /run/cache-resolver/nix.conf; nix-store -r {path}"
                          f" --option extra-trusted-public-keys {public}' 2>&1")
    assert fresh.end() == 0, fresh.said
    assert "the cache is at 10.77.0.141:8080; the machine finds it as 10.0.2.2:8080" in fresh.said
    assert re.search(rf"copying path '{path}' from 'http://10.0.2.2:8080/system", fresh.said), fresh.said


def test_a_cache_with_another_path_is_for_an_installer_that_knows_of_it(lan, fresh):
    lan.router.stop(lan.router.processes[0])
    lan.router.serve_dns("--local=/lan/", f"--host-record=hive.lan,{lan.cache.address}")
    root = f"{lan.cache.directory}/cache8080"
    lan.cache.serve_cache(port=8080, extra=f"location /attic/ {{ alias {root}/; }}")
    anywhere = fresh.tools / "anywhere"
    anywhere.write_text('#!/bin/sh\nexec nixos-anywhere "$@"\n')
    anywhere.chmod(0o755)
    fresh.start("--installer", anywhere, "--cache", "hive.lan:8080/attic", "--", "--no-reboot",
                installer="curl -sf http://127.0.0.1:8080/attic/nix-cache-info")
    assert fresh.end() == 0, fresh.said
    assert "the machine finds it as 10.0.2.2:8080" in fresh.said and "StoreDir: /nix/store" in fresh.said
    assert fresh.words[-4:] == ["--cache", "hive.lan:8080/attic", "--no-reboot", "root@127.0.0.1"]


@pytest.mark.parametrize("stage, stop", [
    ("searching", "INT"), ("searching", "TERM"), ("booting", "INT"), ("booting", "TERM"),
    ("booting", "HUP"), ("booting", "KILL"), ("installing", "INT"), ("installing", "KILL"),
    ("keeping", "TERM")])
def test_interrupted(lan, fresh, stage, stop):
    if stage == "searching":
        fresh.start()
        wait_until(lambda: fresh.processes("cache-resolver"), "the search")
    else:
        lan.cache.serve_cache()
        fresh.start("--keep", installer="sleep 1000" if stage == "installing" else "true")
        fresh.wait_for({"booting": "waiting for ssh", "keeping": "the machine runs"}.get(stage, ""))
        if stage == "installing":
            fresh.wait_for_installer()
        assert fresh.processes("socat") and fresh.processes("qemu")
    fresh.process.send_signal(getattr(signal, f"SIG{stop}"))
    if stop == "KILL":
        # Nobody cleans up, but the kernel: all that is of consequence ends.
        wait_until(lambda: not fresh.processes("qemu") and not fresh.processes("socat"), "the end", 12)
        assert fresh.host.run("ss", "-Hltn").stdout == ""
        for pid in fresh.processes():
            os.kill(pid, signal.SIGKILL)
    else:
        assert fresh.end() == 128 + getattr(signal, f"SIG{stop}")


def test_qemu_hangs(lan, fresh):
    lan.cache.serve_cache()
    fresh.start()
    fresh.wait_for("waiting for ssh")
    (qemu,) = fresh.processes("qemu")
    os.kill(qemu, signal.SIGSTOP)
    fresh.process.terminate()
    assert fresh.end() == 143


@pytest.mark.parametrize("stage", ["booting", "installing"])
def test_qemu_dies(fresh, stage):
    fresh.start(installer="sleep 1000")
    fresh.wait_for("waiting for ssh")
    if stage == "installing":
        fresh.wait_for_installer()
    (qemu,) = fresh.processes("qemu")
    os.kill(qemu, signal.SIGKILL)
    assert fresh.end() == 1
    assert "QEMU has ended" in fresh.said


def test_something_else_has_the_port(lan, fresh):
    lan.cache.serve_cache()
    other = fresh.host.start("nc", "-lk", "127.0.0.1", "9999")
    fresh.start()
    fresh.wait_for("no proxy to the cache at 10.77.0.141:9999")
    assert "Address already in use" in fresh.said
    fresh.process.terminate()
    fresh.process.wait(20)
    assert other.poll() is None
    fresh.host.stop(other)
    assert fresh.end() == 143


def test_a_cache_on_this_computer_needs_no_proxy(fresh):
    fresh.host.serve_cache()
    fresh.start()
    fresh.wait_for("127.0.0.1:9999 leads to the cache already")
    fresh.process.terminate()
    assert fresh.process.wait(20) == 143
    fresh.host.stop(fresh.host.nginx)
    assert fresh.end() == 143


@pytest.mark.parametrize("options, complaint, status", [
    (("--iso", "/nowhere.iso"), "there is no installer image /nowhere.iso", 1),
    (("--installer", "/nowhere"), "there is no /nowhere here", 1),
    (("--cache", "waterbug"), "--cache waterbug is not NAME:PORT/PATH", 2),
    (("--cache", "water bug:9999"), "--host", 2), (("--cache", "waterbug:99999"), "--port", 2),
    (("--cache", "waterbug:9999/a b"), "--path", 2),
    (("--phases", "disko"), "nixos-anywhere's stand behind --", 2),
    (("sorrow",), "one HOST, not griefling and sorrow", 2)])
def test_bad_usage(fresh, options, complaint, status):
    fresh.start(*options)
    assert fresh.end() == status and complaint in fresh.said
    assert not fresh.disk.exists()


def test_a_disk_is_not_overwritten_unasked(fresh):
    fresh.disk.write_text("dear")
    fresh.start()
    assert fresh.end() == 1 and "exists: --force replaces it" in fresh.said
    assert fresh.disk.read_text() == "dear"


def test_ssh_port_in_use(lan, fresh):
    lan.cache.serve_cache()
    other = fresh.host.start("nc", "-lk", "127.0.0.1", "22222")
    fresh.start()
    assert fresh.process.wait(30) == 1
    assert "QEMU has ended" in fresh.said and "22222" in fresh.said
    fresh.host.stop(other)
    assert fresh.end() == 1
