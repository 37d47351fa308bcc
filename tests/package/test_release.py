"""initrd/release: the same bytes from another place, at another time, by another user's habits."""

import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EPOCH = 1_700_000_000


def release(checkout, out, *architectures, umask=0o022, **environment):
    """The files of a release, by name."""
    subprocess.run([checkout / "initrd/release", out, *architectures], env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **environment},
                   umask=umask, timeout=1200, check=True)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The directory and the files of a release of this checkout, with whatever is built already."""
    out = tmp_path_factory.mktemp("here") / "out"
    return out, release(REPOSITORY, out)


def test_it_can_be_checked(made):
    out, files = made
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    assert len(files["SHA256SUMS"].splitlines()) == len(files) - 1
    [program] = [name for name in files if name.endswith("-x86_64")]
    said = subprocess.run([out / program, "--version"], text=True, capture_output=True, check=True).stdout
    version = said.removeprefix("cache-resolver ").strip()
    stem = f"cache-resolver-{version}"
    assert set(files) == {"SHA256SUMS", "TOOLCHAIN", f"{stem}-share.tar.gz", *(
        f"{stem}-{arch}{end}" for arch in ("x86_64", "aarch64") for end in ("", ".cpio.gz"))}
    with tarfile.open(out / f"{stem}-share.tar.gz") as share:
        members = share.getmembers()
        assert {member.name for member in members if member.isfile()} == {
            "share/man/man8/cache-resolver.8", "share/doc/cache-resolver/LICENSE",
            "share/doc/cache-resolver/CHANGELOG.md", "share/bash-completion/completions/cache-resolver",
            "share/zsh/site-functions/_cache-resolver", "share/fish/vendor_completions.d/cache-resolver.fish"}
        assert {(member.mtime, member.uid, member.gid) for member in members} == {(EPOCH, 0, 0)}
        assert {member.mode for member in members} == {0o644, 0o755}


def test_the_same_bytes_in_another_place(made, tmp_path):
    # Everything is built again, std as well: 40 seconds for one architecture are enough.
    copy = tmp_path / "a folder" / "further down"
    copy.mkdir(parents=True)
    for name in ("initrd", "src", ".cargo", "Cargo.toml", "Cargo.lock", "LICENSE", "CHANGELOG.md"):
        (shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy2)(REPOSITORY / name, copy / name)
    again = release(copy, tmp_path / "out", "x86_64", umask=0o077, TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    _, files = made
    assert len(again) == 5
    assert [name for name in again if name != "SHA256SUMS" and again[name] != files[name]] == []


def test_what_is_not_committed_is_not_released(tmp_path):
    shutil.copytree(REPOSITORY / "initrd", tmp_path / "initrd")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    result = subprocess.run([tmp_path / "initrd/release", tmp_path / "out"], env=environment, text=True,
                            capture_output=True, check=False)
    assert result.returncode == 1 and "not committed: ?? initrd/" in result.stderr
    assert not (tmp_path / "out").exists()
