"""initrd/completions in the shells themselves."""

import pathlib
import re
import subprocess

import pytest

from shells import Shell

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Where each shell looks below a directory of $XDG_DATA_DIRS, or zsh below one of its own.
PLACES = {"bash": "bash-completion/completions/cache-resolver", "zsh": "zsh/site-functions/_cache-resolver",
          "fish": "fish/vendor_completions.d/cache-resolver.fish"}
HELP = re.search(r'HELP: &str = "\\\n(.*?)"', (REPOSITORY / "src/cli/mod.rs").read_text(), re.DOTALL).group(1)
NAMES = re.findall(r"(?:^  |, )(--[a-z-]+)", HELP, re.MULTILINE)
VALUED = re.findall(r"^  (--[a-z-]+) [A-Z]", HELP, re.MULTILINE)


def completions(shell):
    """What the script prints for a shell."""
    return subprocess.run([REPOSITORY / "initrd/completions", shell], text=True, capture_output=True, check=True).stdout


@pytest.fixture(params=PLACES)
def shell(request, tmp_path):
    """A shell that finds the completions where it looks for them."""
    path = tmp_path / "share" / PLACES[request.param]
    path.parent.mkdir(parents=True)
    path.write_text(completions(request.param))
    shell = Shell(request.param, tmp_path / "share", tmp_path / "home")
    yield shell
    shell.close()


def test_each_option_is_completed(shell):
    assert len(NAMES) == 23 and len(VALUED) == 13, "all of --help"
    for name in NAMES:
        value = " 1" if name in VALUED else ""
        got = shell.type(f"{name[:-1]}\t{value}")
        assert got == [name, *value.split()], name
    assert shell.type("-v --qui\t") == ["-v", "--quiet"]


def test_values_are_completed(shell):
    (shell.home / "a directory").mkdir()
    (shell.home / "a file").write_text("")
    assert shell.type("--methods prev\t") == ["--methods", "previous"]
    assert shell.type("--methods previous,ho\t") == ["--methods", "previous,hosts"]
    assert shell.type("--methods dns,mdns,sw\t --browse") == ["--methods", "dns,mdns,sweep", "--browse"]
    [joined] = shell.type("--methods=dns,neigh\t")
    assert joined == "--methods=dns,neighbours"
    # Files would be ambiguous.
    assert shell.type("--output-dir a\t")[1].rstrip("/") == "a directory"
    assert shell.type("--override a\\ f\t") == ["--override", "a file"]
    # A number is nobody's name.
    assert shell.type("--port a\t") == ["--port", "a"]


def test_of_what_is_no_option_nothing_comes(shell):
    (shell.home / "onlyfile").write_text("")
    assert shell.type("only\t") == ["only"]


def test_another_shell_is_refused():
    result = subprocess.run([REPOSITORY / "initrd/completions", "tcsh"], text=True, capture_output=True, check=False)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")
