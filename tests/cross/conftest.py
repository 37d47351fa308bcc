"""Our reading, and glibc's."""

import functools
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@functools.cache
def program():
    """`understood`, as `cargo test` builds it."""
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--profile", "test", "--example", "understood"],
                   cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/examples/understood"


def ask(command, lines):
    """The answer to each line."""
    run = subprocess.run(command, input="".join(f"{line}\n" for line in lines).encode(), stdout=subprocess.PIPE,
                         check=True, env={"PATH": os.environ["PATH"]})
    answers = run.stdout.decode(errors="backslashreplace").split("\n")[:-1]
    assert len(answers) == len(lines)
    return answers


@pytest.fixture(scope="session")
def understood():
    """Asks our parsers."""
    return lambda lines: ask([program()], lines)


@pytest.fixture(scope="session")
def glibc(tmp_path_factory):
    """Asks glibc."""
    folder = tmp_path_factory.mktemp("glibc")
    (folder / "nsswitch.conf").write_text("hosts: files\n")
    (folder / "host.conf").write_text("multi on\n")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", folder / "glibc", ROOT / "tests/cross/glibc.c"],
                   check=True)
    return lambda lines: ask([folder / "glibc", folder / "nsswitch.conf", folder / "host.conf"], lines)
