"""nix/install, in root directories of its own, and in the system that runs: that of a mount namespace."""

import base64
import os
import re
import shutil
import subprocess

import pytest

from lan import PROGRAM, REPOSITORY

UNITS = "etc/systemd/system"
DROP_IN = f"{UNITS}/cache-resolver.service.d"
INCLUDE = "!include /etc/cache-resolver/nix.conf\n"
# Of 32 bytes, as every key is.
KEY = f"main:{base64.b64encode(bytes(range(32))).decode()}"
PLACEHOLDER = "main:PUT-YOUR-KEY-HERE"
# Where a machine's commands are, Rust's from Debian apart.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class System:
    """A system with systemd and Nix into which a copy of this repository installs."""

    def __init__(self, directory):
        self.directory, self.root, self.copy = directory, directory / "root", directory / "repository"
        for name in ("nix", "initrd", "src", ".cargo"):
            shutil.copytree(REPOSITORY / name, self.copy / name)
        for name in ("Cargo.toml", "Cargo.lock"):
            shutil.copy2(REPOSITORY / name, self.copy)
        self.program = self.copy / "target/static/x86_64/cache-resolver"
        self.program.parent.mkdir(parents=True)
        shutil.copy(PROGRAM, self.program)
        self.tools, self.log = directory / "bin", directory / "calls"
        self.tools.mkdir()
        self.write("etc/nix/nix.conf", "max-jobs = 3")
        self.write("lib/systemd/system/nix-daemon.service", "[Service]\nExecStart=true\n")

    def path(self, name):
        """A file of the system."""
        return self.root / name

    def write(self, name, content):
        """Writes one."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(content)

    def read(self, name):
        """The content of one, or None."""
        return self.path(name).read_text() if self.path(name).exists() else None

    @property
    def files(self):
        """All but those of users and groups, and what Nix and systemd brought."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")
                if not path.is_dir()
                and not re.search(r"passwd|shadow|group|\.pwd\.lock|nix-daemon\.service$", path.name)}

    def stand_in(self, name, script):
        """A command that records its arguments and then does what the script says."""
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self):
        """How the commands were called for which something stands in."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def install(self, *options, root="root", path=PATH, prefix=()):
        """Runs nix/install."""
        result = subprocess.run(
            [*prefix, self.copy / "nix/install", *(("--root", root) if root else ()), *options], cwd=self.directory,
            env={"PATH": f"{self.tools}:{path}"}, stdin=subprocess.DEVNULL, text=True, capture_output=True,
            timeout=60, check=False)
        self.status, self.said = result.returncode, result.stdout + result.stderr
        return self

    def install_running(self, *options):
        """The same in the system that runs, which has our /etc, /lib/systemd, /run and /usr/local here."""
        for name in ("run/systemd/system", "usr/local/bin", "usr/local/share", "lib/systemd", UNITS):
            self.path(name).mkdir(parents=True, exist_ok=True)
        for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache"):
            if not self.path(f"etc/{name}").exists():
                shutil.copy2(f"/etc/{name}", self.path(f"etc/{name}"))
        bind = "".join(f"mount --bind {self.root}/{name} /{name};"
                       for name in ("etc", "run", "usr/local/bin", "usr/local/share", "lib/systemd"))
        return self.install(*options, root=None, prefix=("unshare", "-m", "sh", "-ec", f'{bind} exec "$@"', "sh"))


@pytest.fixture
def system(tmp_path):
    """A system with nix-daemon, where a build is an error."""
    system = System(tmp_path)
    system.stand_in("rustup", "true")
    system.stand_in("cargo", "exit 1")
    return system


def test_relative_root_from_anywhere(system):
    system.install("--public-key", KEY, "--port", "8080")
    assert system.status == 0, system.said
    assert system.read("etc/default/cache-resolver") == "OPTIONS=\"'--port' '8080' \"\n"
    assert system.read("etc/nix/nix.conf") == f"max-jobs = 3\n{INCLUDE}"
    assert system.read("etc/cache-resolver/nix.conf") == (
        f"extra-trusted-public-keys = {KEY}\n!include /run/cache-resolver/nix.conf\n")
    wanted = system.path(f"{UNITS}/multi-user.target.wants")
    assert {path.name for path in wanted.iterdir()} == {"cache-resolver.service", "cache-resolver-watch.service"}
    assert system.path(f"{UNITS}/paths.target.wants/cache-resolver-nix.path").is_symlink()
    assert "cache-resolver:" in system.read("etc/passwd")
    # What to do next.
    assert f"installed below {system.root}: it looks for the cache at the next boot" in system.said
    assert "--public-key" not in system.said
    assert system.calls == [], "nothing is built"
    share = "usr/local/share"
    page = system.read(f"{share}/man/man8/cache-resolver.8")
    assert page == (REPOSITORY / "initrd/cache-resolver.8").read_text()
    for name, line in (("bash-completion/completions/cache-resolver", "complete -F _cache_resolver cache-resolver\n"),
                       ("zsh/site-functions/_cache-resolver", "#compdef cache-resolver\n"),
                       ("fish/vendor_completions.d/cache-resolver.fish", "complete -c cache-resolver -f\n")):
        path = system.path(f"{share}/{name}")
        assert line in path.read_text() and path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("document", ["README.md", "nix/README.md"])
def test_as_the_document_says(system, document):
    command = re.search(r"^ *sudo nix/install (--public-key .*)$", (REPOSITORY / document).read_text(), re.MULTILINE)
    words = command.group(1).split()
    # Nobody's key, and Nix would fetch nothing from any cache: it has to be replaced.
    before = system.files
    system.install(*words)
    assert system.status == 1 and f"--public-key {PLACEHOLDER}: no key" in system.said
    assert "attic cache info" in system.said
    assert system.files == before
    system.install(*(KEY if word == PLACEHOLDER else word for word in words))
    assert system.status == 0, system.said
    options = "'--host' 'attic.home.arpa' '--port' '8080' '--path' '/main' "
    assert system.read("etc/default/cache-resolver") == f'OPTIONS="{options}"\n'
    assert f"extra-trusted-public-keys = {KEY}\n" in system.read("etc/cache-resolver/nix.conf")


@pytest.mark.parametrize("options, complaint", [
    (("--root", "nowhere"), "nowhere"), (("--root",), "--root has no value"), (("--public-key",), "no value"),
    (("--prot", "1"), "unknown option --prot"), (("--host", "a", "--no-watch"), "unknown option --no-watch"),
    (("--setting", "a='b'"), "no quotes"),
    # No name, no value, too short, too long, another alphabet, a comment, two in one.
    *((("--public-key", key), f"--public-key {key}: no key") for key in (
        KEY.removeprefix("main"), "main:", "main:AAAA", KEY[:-1], f"{KEY}=", KEY.replace("A", "-"), f"#{KEY}",
        f"{KEY} {KEY}"))])
def test_refused_before_anything_is_changed(system, options, complaint):
    before = system.files
    system.install(*options)
    assert system.status != 0 and complaint in system.said
    assert system.files == before


def test_refused_on_nixos(system):
    system.write("etc/NIXOS", "")
    system.install()
    assert system.status == 1 and "this is NixOS" in system.said


def test_an_update_keeps_what_the_administrator_has_added_and_takes_out_old_names(system):
    system.install()
    mine = {f"{DROP_IN}/override.conf", f"{UNITS}/cache-resolver-watch.service.d/overrides.conf",
            "etc/cache-resolver/waterbug-override"}
    old = {f"{DROP_IN}/sandbox.conf", f"{DROP_IN}/watch.conf", f"{UNITS}/cache-resolver-watch.service.d/sandbox.conf"}
    installed = system.files
    for name in mine | old:
        system.write(name, "")
    system.install()
    assert system.status == 0, system.said
    assert system.files == installed | mine
    assert system.read("etc/nix/nix.conf").count(INCLUDE) == 1
    ours = [name for name in installed if name.startswith(DROP_IN)]
    assert ours and all(name < f"{DROP_IN}/override.conf" for name in ours), "systemd applies them in this order"

    system.install("--no-watch")
    assert not any("watch" in name for name in system.files - mine)
    assert "--setting' 'download-attempts=2" in system.read("etc/default/cache-resolver")

    system.install("--uninstall")
    assert system.status == 0 and "out again" in system.said, system.said
    assert system.files == mine | {"etc/nix/nix.conf"}


def test_uninstalling_takes_everything_away_the_user_too(system):
    system.path("etc/nix/nix.conf").unlink()
    system.install()
    assert "cache-resolver:" in system.read("etc/passwd")
    system.install("--uninstall")
    assert system.status == 0, system.said
    assert system.files == set()
    for name in ("passwd", "group", "shadow", "gshadow"):
        assert "cache-resolver" not in (system.read(f"etc/{name}") or "")
    assert system.install("--uninstall").status == 0, "a second time"


def test_it_is_built_again_only_when_its_sources_are_newer(system):
    built = system.directory / "built"
    shutil.copy(PROGRAM, built)
    os.utime(built, (1, 1))
    system.stand_in("cargo", "directory=$CARGO_TARGET_DIR/x86_64-unknown-linux-musl/release;"
                             f" mkdir -p $directory; cp -p {built} $directory/cache-resolver")

    def builds():
        before = len(system.calls)
        assert system.install().status == 0, system.said
        return any(call.startswith("cargo build") for call in system.calls[before:])
    assert not builds()
    (system.copy / "src/main.rs").touch()
    assert builds()
    assert not builds()
    (system.copy / "Cargo.lock").touch()
    assert builds()
    (system.copy / "README.md").touch()
    assert not builds()
    system.program.unlink()
    assert builds()


def test_without_cargo_it_says_what_to_install(system):
    # Everything that Debian has, but cargo.
    for directory in ("/usr/sbin", "/usr/bin"):
        for command in os.listdir(directory):
            if not (system.tools / command).exists():
                (system.tools / command).symlink_to(f"{directory}/{command}")
    (system.tools / "cargo").unlink()
    (system.copy / "src/main.rs").touch()
    before = system.files
    system.install(path="/nowhere")
    assert system.status == 1 and "no cargo here" in system.said and "cargo-web" in system.said
    assert system.files == before
    os.utime(system.program)
    assert system.install(path="/nowhere").status == 0, "what is built needs no cargo"


def test_nix_of_one_user_has_no_daemon_to_restart(system):
    system.install()
    assert f"{UNITS}/cache-resolver-nix.path" in system.files
    system.path("lib/systemd/system/nix-daemon.service").unlink()
    system.install()
    assert system.status == 0, system.said
    assert not any("cache-resolver-nix" in name for name in system.files)
    assert system.read("etc/nix/nix.conf") == f"max-jobs = 3\n{INCLUDE}"
    # As Nix's own installer does it for several users: into the store, which is not below this root.
    system.path(f"{UNITS}/nix-daemon.service").symlink_to("/nix/var/nix/profiles/default/lib/nix-daemon.service")
    system.install()
    assert f"{UNITS}/cache-resolver-nix.path" in system.files


@pytest.mark.parametrize("include", ["!include nix.custom.conf", "!include ./nix.custom.conf",
                                     "include /etc/nix/nix.custom.conf"])
def test_where_determinate_nix_owns_nix_conf(system, include):
    system.install()
    theirs = f"# do not modify! this file will be replaced!\n{include}\n"
    system.write("etc/nix/nix.conf", theirs + INCLUDE)
    system.install()
    assert system.read("etc/nix/nix.conf") == theirs
    assert system.read("etc/nix/nix.custom.conf") == INCLUDE
    system.write("etc/nix/nix.custom.conf", "cores = 2\n" + INCLUDE + "max-jobs = 1")
    system.install()
    assert system.read("etc/nix/nix.custom.conf") == f"cores = 2\nmax-jobs = 1\n{INCLUDE}"
    system.install("--uninstall")
    assert system.read("etc/nix/nix.custom.conf") == "cores = 2\nmax-jobs = 1\n"
    assert system.read("etc/nix/nix.conf") == theirs


@pytest.mark.parametrize("daemon", [True, False])
def test_in_the_system_that_runs(system, daemon):
    if not daemon:
        system.path("lib/systemd/system/nix-daemon.service").unlink()
    system.stand_in("systemctl", "if [ $1 = restart ]; then mkdir -p /run/cache-resolver;"
                    " echo '# Written by cache-resolver. waterbug answered at 10.0.8.141:9999.'"
                    " >/run/cache-resolver/nix.conf; fi")
    system.install_running()
    assert system.status == 0, system.said
    units = "cache-resolver.service " + ("cache-resolver-nix.path " if daemon else "") + "cache-resolver-watch.service"
    assert system.calls == [
        f"systemctl enable --quiet {units}", "systemctl daemon-reload", f"systemctl restart {units}",
        *(["systemctl try-restart nix-daemon.service"] if daemon else [])]
    assert "installed. waterbug answered at 10.0.8.141:9999. What Nix uses now: nix show-config" in system.said
    assert "next: the same with --public-key KEY; without it Nix accepts only what /etc/nix/nix.conf trusts" in system.said

    system.install_running("--uninstall")
    assert system.status == 0, system.said
    assert "systemctl stop cache-resolver-watch.service" in system.calls
    assert not system.path("run/cache-resolver").exists()
    assert "cache-resolver" not in system.read("etc/passwd")


def test_without_the_watcher_and_offline(system):
    system.stand_in("systemctl", "case $1 in restart) exit 1;; show) echo 75;; esac")
    system.install_running("--no-watch")
    assert system.status == 0, system.said
    assert "No network yet: it tries again by itself" in system.said
    assert system.calls[-1] == "systemctl try-restart nix-daemon.service"


def test_a_unit_that_does_not_run_is_an_error(system):
    system.stand_in("systemctl", "case $1 in restart) exit 1;; show) echo 203;; esac")
    system.install_running()
    assert system.status == 1 and "see systemctl status cache-resolver.service" in system.said
