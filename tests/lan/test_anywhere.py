"""nix/anywhere and a target with a real sshd and Nix. What stands in for nixos-anywhere adds the flake's
substituters, as that one does, and copies."""

import json
import os
import re

import pytest

from lan import REPOSITORY, make_binary_cache, sh

ANYWHERE = REPOSITORY / "nix/anywhere"
STANDS_IN = """#!/usr/bin/python3
import json, os, subprocess, sys
words = sys.argv[1:]
with open("{log}", "a") as log:
    print(json.dumps(words), file=log)
phases = words[words.index("--phases") + 1].split(",")
key = words[words.index("-i") + 1]
port = words[words.index("--ssh-port") + 1] if "--ssh-port" in words else "22"
options = ["-o", "IdentitiesOnly=yes", "-i", key, "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
if "kexec" in phases:
    with open("{keys}", "ab") as keys:
        keys.write(subprocess.run(["ssh-keygen", "-y", "-f", key], stdout=-1, check=True).stdout)
    if {kexec_status}:
        sys.exit({kexec_status})
if "{substituters}" and "--no-use-machine-substituters" not in words:
    subprocess.run(["ssh", *options, "-p", port, "root@{address}", "mkdir -p ~/.config/nix;"
        " echo extra-substituters = {substituters} >>~/.config/nix/nix.conf"], check=True)
if "install" in phases:
    os.environ["NIX_SSHOPTS"] = " ".join([*options, "-p", port])
    subprocess.run(["nix", "--extra-experimental-features", "nix-command", "copy", "--substitute-on-destination",
        "--no-check-sigs", "--from", "{store}", "--to", "ssh://{address}?remote-store=local%3Froot=%2Fmnt",
        "{path}"], check=True)
"""


class Installation:
    """A computer, the target, and the cache, which the target's DNS server knows."""

    def __init__(self, lan, directory):
        self.directory = lan.directory
        (self.path,), self.content, self.public = make_binary_cache(directory)
        self.store = f"local?root={directory}/store"
        router, self.cache = lan.host("router", 1), lan.host("cache", 141)
        router.serve_dns("--local=/lan/", f"--host-record=waterbug.lan,{self.cache.address}")
        self.admin, self.target = lan.host("admin", 50), lan.host("target", 60)
        self.target.write_etc("resolv.conf", f"nameserver {router.address}\n")
        self.keys, self.log = self.directory / "authorized-keys", self.directory / "calls"
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / "host-key")

    def serve_ssh(self, port=22, prepare="true"):
        """sshd on the target, with a home and a store of its own."""
        config = self.directory / "sshd_config"
        config.write_text(
            f"Port {port}\nHostKey {self.directory}/host-key\nAuthorizedKeysFile {self.keys}\n"
            f"StrictModes no\nUsePAM no\nPidFile none\nSetEnv TMPDIR={self.directory}/target/tmp\n")
        # In the mount namespace of `ip netns exec`.
        self.target.start(
            "sh", "-ec", f"cd {self.directory}/target; mkdir -p root mnt run tmp;"
            " for name in root mnt run; do mount --bind $name /$name; done;"
            f" mkdir -p /run/sshd; {prepare}; exec $(command -v sshd) -D -e -f {config}")
        self.target.wait_for_port(port, "t")

    def run(self, *words, kexec_status=0, substituters="", prefix=()):
        """Runs nix/anywhere: what it said. The flake has these substituters."""
        tools = self.directory / "bin"
        tools.mkdir(exist_ok=True)
        (tools / "nixos-anywhere").write_text(STANDS_IN.format(
            log=self.log, keys=self.keys, kexec_status=kexec_status, store=self.store, path=self.path,
            address=self.target.address, substituters=substituters))
        (tools / "nixos-anywhere").chmod(0o755)
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(self.directory)}
        result = self.admin.run(*prefix, ANYWHERE, *words, env=environment, check=False, timeout=120)
        self.status, self.said = result.returncode, result.stderr

    @property
    def calls(self):
        """What nixos-anywhere was called with, without the key that was made for it."""
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [words[:at] + words[at + 2:] for words in calls for at in [words.index("-i")]]

    @property
    def nix_conf(self):
        """That of root on the target."""
        return self.directory / "target/root/.config/nix/nix.conf"

    @property
    def is_installed(self):
        """Whether the target has the store path."""
        return (self.directory / "target/mnt").joinpath(*self.path.split("/")[1:]).exists()

    @property
    def fetched(self):
        """The NARs of the closure that the target has taken from the cache."""
        nar = re.compile(rf"{self.target.address} .*GET /system/nar/\S+ .* 200 ")
        return [line for line in self.cache.requests() if nar.match(line)]


@pytest.fixture
def installation(lan, tmp_path):
    """Everything but sshd and the cache's server."""
    return Installation(lan, tmp_path)


def test_the_closure_comes_from_the_cache(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh()
    installation.run("--flake", ".#a host", "--public-key", installation.public, "root@10.77.0.60")
    assert installation.status == 0, installation.said
    assert "found at 10.77.0.141:9999 by dns" in installation.said
    assert installation.calls == [
        ["--flake", ".#a host", "root@10.77.0.60", "--phases", "kexec"],
        ["--flake", ".#a host", "root@10.77.0.60", "--no-use-machine-substituters", "--phases", "disko,install,reboot"]]
    assert installation.is_installed and len(installation.fetched) == 1
    assert installation.nix_conf.read_text() == (
        f"!include /run/cache-resolver/nix.conf\nextra-trusted-public-keys = {installation.public}\n")


def test_the_installers_nix_conf_keeps_its_lines_and_gets_ours_once(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh()
    nix_conf = installation.nix_conf
    nix_conf.parent.mkdir(parents=True)
    nix_conf.write_text("extra-substituters = /\n!include /run/cache-resolver/nix.conf\nmax-jobs = 3")
    installation.run("--target-host", "root@10.77.0.60", "--phases", "kexec", "--public-key", "a:b")
    assert installation.status == 0, installation.said
    assert nix_conf.read_text() == (
        "extra-substituters = /\n!include /run/cache-resolver/nix.conf\nmax-jobs = 3\n"
        "extra-trusted-public-keys = a:b\n")
    assert [words[-1] for words in installation.calls] == ["kexec"]


def test_after_kexec_ssh_has_another_port(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh(2200)
    installation.run("-p", "22222", "--post-kexec-ssh-port", "2200", "--public-key", installation.public,
                     "nixos@10.77.0.60")
    assert installation.status == 0, installation.said
    first, second = installation.calls
    assert first[-4:] == ["--ssh-port", "22222", "--phases", "kexec"]
    assert second[-4:] == ["--ssh-port", "2200", "--phases", "disko,install,reboot"]
    assert len(installation.fetched) == 1


@pytest.mark.parametrize("trouble, prepare", [
    ("no cache", "true"), ("a full disk", "mount -t tmpfs -o size=4k tmpfs tmp"),
    ("no right to execute", "mount -t tmpfs -o noexec tmpfs tmp"),
    ("a home that is read-only", "mount -t tmpfs -o ro tmpfs /root"),
    ("a read-only /run", "mount -o bind,remount,ro /run")])
def test_whatever_goes_wrong_the_installation_goes_on(installation, trouble, prepare):
    if trouble != "no cache":
        installation.cache.serve_cache(installation.content)
    installation.serve_ssh(prepare=prepare)
    installation.run("--public-key", installation.public, "root@10.77.0.60")
    assert installation.status == 0, installation.said
    assert len(installation.calls) == 2 and installation.is_installed
    assert trouble == "no cache" or "going on without" in installation.said


def test_a_target_that_ssh_does_not_reach_is_left_to_nixos_anywhere(installation):
    installation.run("root@10.77.0.60")
    assert "going on without" in installation.said
    assert [words[-1] for words in installation.calls] == ["kexec", "disko,install,reboot"]
    assert installation.status != 0, "it was nixos-anywhere that failed"


def test_when_kexec_fails_that_is_the_end(installation):
    installation.run("root@10.77.0.60", kexec_status=7)
    assert installation.status == 7 and len(installation.calls) == 1


def test_a_flake_that_lists_a_loopback_address_and_two_installations(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh()
    flake = ("http://127.0.0.1:9999/system http://localhost:8080 https://cache.nixos.org"
             " http://[::1]:5000/ http://127.0.0.10.example:80/x")
    words = "--flake", ".#a", "--public-key", installation.public, "root@10.77.0.60"
    once = ("extra-substituters = https://cache.nixos.org http://127.0.0.10.example:80/x\n",
            f"!include /run/cache-resolver/nix.conf\nextra-trusted-public-keys = {installation.public}\n")
    for count in range(1, 3):
        installation.run(*words, substituters=flake)
        assert installation.status == 0, installation.said
        text = installation.nix_conf.read_text()
        assert text == "".join(once[:2]) + once[0] * (count - 1), "ours once, nixos-anywhere's once an installation"
    assert len(installation.fetched) == 1


@pytest.mark.parametrize("word, port, path", [
    ("hive.lan:8080/attic/a.b-c", 8080, "/attic/a.b-c"), ("hive.lan:8080", 8080, "/system")])
def test_a_cache_with_another_name(installation, word, port, path):
    router = installation.target.lan.hosts[0]
    router.stop(router.processes[0])
    router.serve_dns("--local=/lan/", f"--host-record=hive.lan,{installation.cache.address}")
    installation.cache.serve_cache(installation.content, port=port, extra=f"location {path}/ {{ alias "
                                   f"{installation.cache.directory}/cache{port}/; }}" if path != "/system" else "")
    installation.serve_ssh()
    installation.run("--cache", word, "--public-key", installation.public, "root@10.77.0.60")
    assert installation.status == 0, installation.said
    assert "hive" in installation.said and f"found at 10.77.0.141:{port} by dns" in installation.said
    assert all("--cache" not in words for words in installation.calls)
    assert any(f"GET {path}/nar/" in line for line in installation.cache.requests(port))


def test_an_agent_with_many_keys_is_not_asked(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh()
    agent = ("ssh-agent", "sh", "-c", "for number in 1 2 3 4 5 6 7; do ssh-keygen -q -t ed25519 -N '' -f"
             " $HOME/agent$number; ssh-add -q $HOME/agent$number; done; exec \"$@\"", "sh")
    installation.run("--public-key", installation.public, "root@10.77.0.60", prefix=agent)
    assert installation.status == 0, installation.said
    assert "going on without" not in installation.said and len(installation.fetched) == 1


def test_a_key_that_can_be_read_once(installation):
    installation.cache.serve_cache(installation.content)
    installation.serve_ssh()
    key = installation.directory / "key"
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    installation.run("root@10.77.0.60", prefix=("bash", "-c", f'exec "$@" -i <(cat {key})', "bash"))
    assert installation.status == 0, installation.said
    assert "going on without" not in installation.said
    (public,) = set(installation.keys.read_text().splitlines())
    assert public.split()[1] == key.with_suffix(".pub").read_text().split()[1]


@pytest.mark.parametrize("words, complaint", [
    ((), "whom to install on is missing"), (("root@10.77.0.60", "--flake"), "--flake needs a value"),
    (("--chown", "/x"), "--chown needs a value"), (("--stop-before-disko", "h"), "--stop-before-disko is no option"),
    (("a", "b"), "one HOST, not a and b"), (("--phases", "kexec,dico", "h"), "--phases kexec,dico is not a list of"),
    (("--phases", "", "h"), "is not a list of"), (("--phases", "kexec,", "h"), "is not a list of"),
    (("--cache", "waterbug", "h"), "--cache waterbug is not NAME:PORT/PATH"),
    (("--cache", "hive.lan:80800/system", "h"), "80800 is not a port"), (("--cache", "a:0", "h"), "0 is not a port"),
    (("--cache", "a:1/b c", "h"), "is not NAME:PORT/PATH"), (("--cache", "a'b:1", "h"), "is not NAME:PORT/PATH"),
    (("--cache", "10.0.8.141:9999/system", "h"), "10.0.8.141 is an address, not a name")])
def test_bad_usage(installation, words, complaint):
    installation.run(*words)
    assert installation.status == 2 and complaint in installation.said
    assert not installation.log.exists()
