"""What becomes of each option of nixos-anywhere, in the one or two runs of it that nix/anywhere makes.

As of nixos-anywhere 91fc9b7. With NIXOS_ANYWHERE in the environment, the path of its nixos-anywhere.sh, its own
parser says what each run understands, and that there is no option that is not in the table.
"""

import json
import os
import re
import subprocess

import pytest

from lan import REPOSITORY

SCRIPT = os.environ.get("NIXOS_ANYWHERE")


def needs_upstream(test):
    """A test that runs nixos-anywhere's own parser, where we have been told of it."""
    test.__test__ = bool(SCRIPT)
    return test



BOTH = "both runs"
FIRST = "the first run"  # the only one where nothing is left for a second
PHASES = "mapped: --phases of each run"
PORT = "mapped: the first run as it is, the second where ssh answers then"
KEY = "mapped: a copy of the key, made once, for both runs and our own ssh"
TABLE = [
    # Names, values, what becomes of it.
    (("-f", "--flake"), (".#b",), BOTH),
    (("--target-host",), ("root@h",), BOTH),
    (("-i",), ("KEY",), KEY),
    (("-p", "--ssh-port"), ("2022",), PORT),
    (("--ssh-option",), ("ServerAliveInterval=5",), BOTH),
    (("-L", "--print-build-logs"), (), BOTH),
    (("-s", "--store-paths"), ("/disko", "/system"), BOTH),
    # The flake may read the file that is written: the first run evaluates it. The second need not write it again.
    (("--generate-hardware-config",), ("nixos-facter", "./facter.json"), FIRST),
    (("-t", "--tty"), (), BOTH),
    # Those of the phase kexec.
    (("--kexec",), ("/tarball",), FIRST),
    (("--force-kexec",), (), FIRST),
    (("--kexec-extra-flags",), ("--no-sync",), FIRST),
    (("--post-kexec-ssh-port",), ("2200",), FIRST),
    (("--ssh-store-setting",), ("compress", "false"), BOTH),
    (("--copy-host-keys",), (), BOTH),
    (("--show-trace",), (), BOTH),
    (("--debug",), (), BOTH),
    (("--disko-mode",), ("mount",), BOTH),
    (("--no-disko-deps",), (), BOTH),
    (("--build-on",), ("remote",), BOTH),
    (("--extra-files",), ("/a b",), BOTH),
    (("--chown",), ("/home/a", "1000:100"), BOTH),
    # A pipe is read in the phase disko only.
    (("--disk-encryption-keys",), ("/tmp/key", "/dev/fd/63"), BOTH),
    (("--phases",), ("kexec,disko,install",), PHASES),
    (("--stop-after-disko",), (), PHASES),
    (("--no-reboot",), (), PHASES),
    (("--from",), ("ssh://builder",), BOTH),
    (("--option",), ("cores", "2"), BOTH),
    (("--no-substitute-on-destination",), (), BOTH),
    # The second run gets it always: the first has copied them, each run would do it again.
    (("--no-use-machine-substituters",), (), BOTH),
    (("--build-on-remote",), (), BOTH),
    (("--env-password",), (), BOTH),
]
# Those two end it: ours is printed, and nixos-anywhere alone runs.
ENDS = {"--help", "--vm-test"}
ROWS = [(name, values, fate) for names, values, fate in TABLE for name in names]

# What parseArgs sets, but for what differs between runs by intention.
VARIABLES = (
    "flake flakeAttr sshStoreSettings enableDebug nixBuildFlags diskoAttr diskoScript diskoMode diskoDeps nixosSystem"
    " extraFiles vmTest nixOptions sshConnection buildOn envPassword diskEncryptionKeys extraFilesOwnership"
    " nixCopyOptions copyHostKeys").split()
OF_KEXEC = (
    "kexecUrl forceKexec kexecExtraFlags postKexecSshPort hardwareConfigBackend hardwareConfigPath"
    " machineSubstituters").split()


class Tool:
    """nix/anywhere where nobody answers, with something in the place of nixos-anywhere that records its arguments."""

    def __init__(self, directory):
        self.directory, self.log, self.key = directory, directory / "log", directory / "own-key"
        self.key.write_text("a private key\n")
        scripts = {"ssh": "#!/bin/sh\nexit 255\n", "nixos-anywhere": (
            "#!/usr/bin/python3\nimport json, sys\nwords = sys.argv[1:]\n"
            "key = open(words[words.index('-i') + 1]).read() if '-i' in words else ''\n"
            f"print(json.dumps([words, key]), file=open({str(self.log)!r}, 'a'))\n")}
        for name, script in scripts.items():
            (directory / name).write_text(script)
            (directory / name).chmod(0o755)

    def run(self, *words, **environment):
        """The arguments of each run of nixos-anywhere, and the key that it could read."""
        environment = {"PATH": f"{self.directory}:{os.environ['PATH']}", **environment}
        result = subprocess.run(
            ["unshare", "-n", REPOSITORY / "nix/anywhere", *words], env=environment, stdin=subprocess.DEVNULL,
            text=True, capture_output=True, timeout=60, check=False)
        self.said = result.stdout + result.stderr
        assert result.returncode == 0, self.said
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        self.keys = [key for _, key in calls]
        return [words for words, _ in calls]

    def parse(self, words):
        """What nixos-anywhere's own parser makes of arguments: its variables."""
        script = ('source <(sed "/^main \\"\\$@\\"$/d" "$0"); parseArgs "$@" >&2; set +eu;'
                  ' for name in phases sshPrivateKeyFile sshArgs $variables; do declare -p $name || echo; done')
        result = subprocess.run(
            ["bash", "-c", script, SCRIPT, *words], text=True, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "variables": " ".join(VARIABLES + OF_KEXEC)})
        temporary = re.search(r"(\S+)/nixos-anywhere\"", result.stdout)[1].split('"')[-1]
        lines = result.stdout.replace(temporary, "TEMPORARY").splitlines()
        return dict(zip(["phases", "sshPrivateKeyFile", "sshArgs"] + VARIABLES + OF_KEXEC, lines))


@pytest.fixture
def tool(tmp_path):
    """The tool."""
    return Tool(tmp_path)


def given(name, values, tool):
    """An option, and what else there has to be."""
    words = [name, *(str(tool.key) if value == "KEY" else value for value in values)]
    if name not in ("-f", "--flake", "-s", "--store-paths"):
        words += ["--flake", ".#a"]
    if name != "--target-host":
        words.append("root@h")
    return words


def without(words, *options):
    """Arguments without some options that have one value."""
    for option in options:
        while option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2:]
    return words


@pytest.mark.parametrize("name, values, fate", ROWS, ids=[name for name, _, _ in ROWS])
def test_what_becomes_of_it(tool, name, values, fate):
    words = given(name, values, tool)
    first, second = tool.run(*words)
    expected = {"--stop-after-disko": ("kexec", "disko")}.get(
        name, ("kexec", "disko,install" if fate == PHASES else "disko,install,reboot"))
    assert [run[run.index("--phases") + 1] for run in (first, second)] == list(expected)
    assert [run.count("--phases") for run in (first, second)] == [1, 1]
    assert len(set(tool.keys)) == 1 and (tool.keys[0] == "a private key\n") == (fate == KEY)

    first, second = without(first, "-i", "--phases"), without(second, "-i", "--phases")
    assert second.pop(-3 if fate == PORT else -1) == "--no-use-machine-substituters"
    rest = words[len(values) + 1:]
    if fate == BOTH:
        assert first == second == words
    elif name == "--force-kexec":
        assert (first, second) == (rest + [name, name], rest), "parseArgs takes the next word away with it"
    elif fate == FIRST:
        assert (first, second) == (rest + words[:len(values) + 1], rest)
    elif fate == PORT:
        assert first == second == rest + ["--ssh-port", "2022"], "nobody has answered"
    else:
        assert first == second == rest


@pytest.mark.parametrize("words, phases", [
    ((), ["kexec", "disko,install,reboot"]), (("--phases", "kexec"), ["kexec"]),
    (("--phases", "disko,install"), ["disko,install"]), (("--phases", "reboot"), ["reboot"]),
    (("--phases", "install,kexec"), ["kexec", "install"]),
    (("--no-reboot", "--phases", "disko"), ["disko"]), (("--phases", "reboot", "--no-reboot"), ["kexec", "disko,install"]),
    (("--no-reboot", "--stop-after-disko"), ["kexec", "disko"])])
def test_nothing_runs_that_is_not_asked_for(tool, words, phases):
    runs = tool.run(*words, "--flake", ".#a", "--generate-hardware-config", "nixos-facter", "f", "root@h")
    assert [run[run.index("--phases") + 1] for run in runs] == phases, "the last one wins, as in nixos-anywhere"
    assert ["--generate-hardware-config" in run for run in runs] == [True, False][:len(runs)]
    assert ["--no-use-machine-substituters" in run for run in runs] == [False, True][:len(runs)]
    assert ("going on without" in tool.said) == (phases != ["reboot"])


def test_the_key_in_the_environment(tool):
    assert len(tool.run("--phases", "disko", "--flake", ".#a", "root@h", SSH_PRIVATE_KEY="secret")) == 1
    assert tool.keys == ["secret\n"]


def test_vm_test_is_left_to_nixos_anywhere(tool):
    words = ["--flake", ".#a", "--vm-test", "-L", "-p", "1"]
    assert tool.run("--public-key", "a:b", *words[:3], "--cache", "a.lan:1", *words[3:]) == [words]


@needs_upstream
def test_no_option_is_missing_here():
    with open(SCRIPT) as file:
        body = re.search(r"^parseArgs\(\) \{.*?^\}", file.read(), re.DOTALL | re.MULTILINE)[0]
    labels = re.findall(r"^    (-[^)]*)\)$", body, re.MULTILINE)
    assert {name for label in labels for name in label.split(" | ")} == {name for name, _, _ in ROWS} | ENDS


@needs_upstream
@pytest.mark.parametrize("name, values, fate", ROWS, ids=[name for name, _, _ in ROWS])
def test_what_nixos_anywhere_makes_of_it(tool, name, values, fate):
    words = given(name, values, tool)
    first, second = map(tool.parse, tool.run(*words))
    alone = tool.parse([name, *words] if name == "--force-kexec" else words)
    for variable in VARIABLES:
        assert first[variable] == second[variable] == alone[variable]
    for variable in OF_KEXEC:
        assert first[variable] == alone[variable]
    assert second["machineSubstituters"] == 'declare -- machineSubstituters="n"'
    assert second["hardwareConfigBackend"] == 'declare -- hardwareConfigBackend="none"'
    assert first["sshArgs"] == second["sshArgs"] == alone["sshArgs"]
    assert first["sshPrivateKeyFile"] == second["sshPrivateKeyFile"] != 'declare -- sshPrivateKeyFile=""'

    def phases(run):
        return set(re.findall(r'\[(\w+)\]="1"', run["phases"]))
    assert phases(first) == {"kexec"} and not phases(first) & phases(second)
    assert phases(first) | phases(second) == phases(alone)
