"""The manual page as mandoc sees it; tests/documents.rs compares it with the program."""

import pathlib
import subprocess

PAGE = pathlib.Path(__file__).resolve().parents[2] / "initrd/cache-resolver.8"


def mandoc(*options):
    """What mandoc prints of the page."""
    return subprocess.run(["mandoc", *options, PAGE], text=True, capture_output=True, check=False,
                          env={"LC_ALL": "C.UTF-8"}).stdout


def test_it_is_clean():
    # Which other pages there are is up to the machine.
    complaints = [line for line in mandoc("-Tlint", "-Wstyle").splitlines()
                  if "referenced manual not found" not in line]
    assert complaints == []


def test_it_fits_a_terminal():
    text = mandoc("-Tascii", "-Owidth=80")
    # Overstruck letters are a letter each.
    lines = [line.split("\b") for line in text.splitlines()]
    widths = [sum(map(len, parts)) - (len(parts) - 1) for parts in lines]
    assert len(widths) > 200 and max(widths) <= 80
