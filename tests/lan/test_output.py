"""Where the files go, and what happens where they cannot."""

import os
import pathlib
import shutil

import pytest

from elf import assert_static_pie
from lan import PROGRAM, PYTHON, wait_until


@pytest.fixture
def place(client):
    """A directory that is mounted in the client's own mount namespace."""
    path = client.directory / "mounted"
    path.mkdir()
    (client.directory / "override").write_text("none\n")
    return path


def run_mounted(client, place, options, before):
    """Runs the program where `place` is a tmpfs mounted with `options` after `before` ran in it."""
    return client.run(
        "sh", "-c",
        f"mount -t tmpfs -o size=4k tmpfs {place} && cd {place} && {before} &&"
        f" mount -o remount,{options} {place};"
        f" {PROGRAM} --override {client.directory}/override --output-dir {place}; status=$?;"
        f" cat {place}/nix.conf; ls -A {place}; exit $status", check=False)


def test_full_disk_keeps_the_previous_file(client, place):
    result = run_mounted(client, place, "size=4k", "echo old > nix.conf")
    assert result.returncode == 1
    assert "free some space" in result.stderr
    assert result.stdout == "old\nnix.conf\n", "the old file, and nothing else"


def test_read_only_directory(client, place):
    result = run_mounted(client, place, "ro", "echo old > nix.conf")
    assert result.returncode == 1
    assert "--output-dir" in result.stderr
    assert result.stdout == "old\nnix.conf\n"


def test_static_in_an_empty_chroot(cache, client):
    """No libc, no /etc, no /proc, no /dev: found all the same, and a static PIE."""
    assert_static_pie(pathlib.Path(PROGRAM))
    cache.announce_by_avahi()
    root = client.directory / "root"
    root.mkdir()
    shutil.copy(PROGRAM, root / "cache-resolver")
    result = client.run("chroot", root, "/cache-resolver")
    assert (root / "run/cache-resolver/waterbug-ip").read_text() == f"{cache.address}\n", result.stderr


def test_place_for_ordinary_users(client):
    """$XDG_RUNTIME_DIR, and a clear word where it is not set."""
    (client.directory / "run").mkdir(mode=0o777)
    (client.directory / "run").chmod(0o777)
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-u", "RUNTIME_DIRECTORY"]
    override = ["--override", client.directory / "override"]
    (client.directory / "override").write_text("none\n")
    client.run(*words, f"XDG_RUNTIME_DIR={client.directory}/run", PROGRAM, *override)
    assert (client.directory / "run/cache-resolver/nix.conf").exists()
    result = client.run(*words, "-u", "XDG_RUNTIME_DIR", PROGRAM, *override, check=False)
    assert result.returncode == 1
    assert "XDG_RUNTIME_DIR is not set" in result.stderr and "--output-dir" in result.stderr
    assert "substituters = https://cache.nixos.org" in result.stderr


NOBODY = 65534
# Holds a lock on everything in a directory that it may open, and on the directory.
LOCKER = """
import fcntl, os, sys, time
top = sys.argv[1]
held = []
for path in [top, *(os.path.join(top, name) for name in os.listdir(top))]:
    try:
        held.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError:
        pass
print("holds", len(held), flush=True)
time.sleep(1000)
"""


def hold_all(host, directory):
    """Another user's process that holds all the locks that it can get; how many."""
    process = host.start("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                         PYTHON, "-c", LOCKER, directory)
    wait_until(lambda: "holds" in process.log.read_text(), "no locks")
    return int(process.log.read_text().split()[1])


def test_another_user_s_locks_stop_nobody(cache, client):
    client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
    client.resolve()
    # What a run that was killed leaves.
    (client.directory / "out/.lock").touch(0o600)
    assert hold_all(client, client.directory / "out") == 4, "the directory and its three files"
    client.write_etc("hosts", "127.0.0.1 localhost\n")
    result = client.resolve("--methods", "hosts", "--budget", "1")
    assert "no cache here" in result.log and result.address is None


@pytest.mark.alone
def test_a_lock_that_root_has_left_stops_nobody(client):
    """Killed before it gave the lock to the owner of the directory."""
    shared = client.directory / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    (shared / ".lock").touch(0o600)
    result = client.resolve("--methods", "hosts", "--budget", "0.5", "--output-dir", str(shared), user=NOBODY)
    assert result.status == 0 and result.seconds < 1, result.log
    assert sorted(file.name for file in shared.iterdir()) == ["explain", "nix.conf"]


def test_root_and_the_user_of_the_unit_take_turns(client):
    """Each may remove the other's files, and must not."""
    shared = client.directory / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    (client.directory / "override").write_text("none\n")
    command = (f"for run in $(seq 200); do rm -f {shared}/nix.conf; {PROGRAM} -q --output-dir {shared}"
               f" --override {client.directory}/override || exit; done; echo all")
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    loops = [client.start(*words, "sh", "-c", command) for words in ((), drop)]
    for loop in loops:
        assert loop.wait(120) == 0 and loop.log.read_text() == "all\n", loop.log.read_text()


@pytest.mark.parametrize("user", [None, 1000])
def test_another_user_s_files_stop_nobody(cache, client, user):
    """In a directory like /tmp, where a user may not remove what is another's."""
    client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
    shared = client.directory / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / ".lock").write_text("")
    (shared / "waterbug-ip.new").mkdir()
    victims = [client.directory / "victim1", client.directory / "victim2"]
    for victim, name in zip(victims, ("nix.conf.new", "explain.new")):
        victim.write_text("precious")
        victim.chmod(0o666)
        (shared / name).symlink_to(victim)
    for path in shared.iterdir():
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    (shared / ".lock").chmod(0o666)
    assert hold_all(client, shared) >= 2
    result = client.resolve("--budget", "2", "--output-dir", str(shared), user=user)
    assert (shared / "waterbug-ip").read_text() == cache.address + "\n", result.log
    assert f"http://{cache.address}:9999" in (shared / "nix.conf").read_text()
    assert [victim.read_text() for victim in victims] == ["precious", "precious"]
    left = {path.name for path in shared.iterdir()} - {"nix.conf", "waterbug-ip", "explain"}
    theirs = {".lock", "waterbug-ip.new", "nix.conf.new", "explain.new"}
    assert left == (theirs if user else {"waterbug-ip.new"})


def test_another_user_s_file_is_not_taken_for_ours(client):
    """It has the right content, until its owner changes it."""
    shared = client.directory / "shared"
    (client.directory / "override").write_text("none\n")
    options = ("--override", client.directory / "override", "--output-dir", str(shared))
    client.resolve(*options)
    shared.chmod(0o1777)
    os.chown(shared / "nix.conf", NOBODY, NOBODY)
    client.resolve(*options)
    assert (shared / "nix.conf").stat().st_uid == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_descriptors_closed_and_no_dev(client, closed):
    """What is closed stays as good as closed: nothing of ours gets its number, and nobody waits for it."""
    (client.directory / "override").write_text("none\n")
    out = client.directory / "out"
    client.run(
        "unshare", "--mount", "sh", "-c",
        f"mount -t tmpfs tmpfs /dev && exec {PROGRAM} --explain -v --output-dir {out}"
        f" --override {client.directory}/override {closed}", timeout=5)
    assert (out / "nix.conf").read_text().startswith("# Written by cache-resolver. No local cache")
