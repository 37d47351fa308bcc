"""Debian's releases as root directories: other versions of Nix and of systemd, on hosts of a LAN."""

import concurrent.futures
import functools
import pathlib

from lan import COUNTER, REPOSITORY, sh

# Each release, and the Nix that it has.
NIX = {"bookworm": "2.8", "trixie": "2.26", "sid": "2.34"}
# An overlay over the root directory, which goes with the mount namespace that `ip netns exec` has made.
ENTER = """set -e
root=$1 directory=$2
shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
rm -f /mnt/root/etc/resolv.conf /mnt/root/etc/hosts
touch /mnt/root/etc/resolv.conf /mnt/root/etc/hosts
mkdir -p "/mnt/root$directory"
for place in /proc /sys /etc/resolv.conf /etc/hosts "$directory"; do
    mount --bind "$place" "/mnt/root$place"
done
exec chroot /mnt/root "$@"
"""


@functools.cache
def root_directory(release):
    """A release's root directory, made when there is none; nobody writes to it."""
    return sh(REPOSITORY / "tests/roots/build", release).stdout.strip()


def within(release, host, *words):
    """The words that run a program of a release on a host, for its `run` and `start`. The program sees the
    host's network, resolv.conf and hosts file, and the host's directory where it is; whatever else it
    writes is gone when it ends."""
    return ("sh", "-c", ENTER, "sh", root_directory(release), host.directory, *words)


def realise(client, release, path, public, nix_conf, timeout=None):
    """Has a fresh Nix of a release fetch the path: what it said, or None where it did not get it."""
    home = client.directory / f"nix{next(COUNTER)}"
    (home / "etc").mkdir(parents=True)
    (home / "etc/nix.conf").write_text(
        f"trusted-public-keys = {public}\nsandbox = false\nbuild-users-group =\n"
        f"!include {nix_conf}\n")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "NIX_CONF_DIR": str(home / "etc"),
        "NIX_CACHE_HOME": str(home / "cache"), "XDG_CACHE_HOME": str(home / "cache"),
        "NIX_REMOTE": f"local?root={home}/root",
    }
    result = client.run(*within(release, client, "nix-store", "-r", path), env=environment, check=False,
                        timeout=timeout)
    copied = (home / "root").joinpath(*pathlib.Path(path).parts[1:]).exists()
    assert copied == (result.returncode == 0), result.stderr
    return result.stderr if copied else None


def at_once(fetch, cases=tuple(NIX)):
    """What becomes of each case, a release as a rule, all at once: they mostly wait."""
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(fetch, cases)))
