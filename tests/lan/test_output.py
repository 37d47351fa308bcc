"""Where the files go, and what happens where they cannot."""

import shutil

import pytest

from lan import PROGRAM


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
    """No libc, no /etc, no /proc, no /dev: found all the same."""
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
