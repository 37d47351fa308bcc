"""README.md does what it says: its commands run, its pictures are of this program, its counts are right."""

import html
import json
import os
import re
import time

import pytest

from lan import PROGRAM, PYTHON, REPOSITORY, make_binary_cache, wait_until
from pictures import OPTIONS, SCENES, run_scene, words

README = (REPOSITORY / "README.md").read_text()
# What a reader of the demo may take; a busy machine needs it.
DEMO_SECONDS = 30
# Of a scene, until one is like its picture.
RUNS = 5
# Prints how many packets of each kind leave through eth0, when it is ended.
COUNT = """
import collections, json, signal, socket, sys
counts = collections.Counter()
def end(*_):
    print(json.dumps(counts), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
watched = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
watched.bind(("eth0", 3))
print("ready", flush=True)
while True:
    data, (_, protocol, kind, *_) = watched.recvfrom(2000)
    if kind != socket.PACKET_OUTGOING:
        continue
    if protocol == 0x806:
        counts["sweep by ARP"] += 1
        continue
    rest = data[(data[0] & 15) * 4:]
    port = int.from_bytes(rest[2:4], "big")
    if data[9] == 1:
        name = "ping"
    elif data[9] == 2:
        continue  # IGMP, with which the kernel joins the group of multicast DNS
    elif data[9] == 6:
        name = "connections" if rest[13] & 2 else "in connections"
    else:
        name = {53: "DNS: A and AAAA", 5353: "multicast DNS"}.get(port, f"to port {port}")
        if port == 5353 and data[16] != 224:
            name = "multicast DNS, directly"
    counts[name] += 1
"""


def blocks(language):
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def demo():
    """The three lines of the demo."""
    return next(block for block in blocks("sh") if "http.server" in block)


def program_as_a_reader_has_it(directory):
    """A PATH on which the program stands by its name."""
    (directory / "cache-resolver").symlink_to(os.path.realpath(PROGRAM))
    return dict(os.environ, PATH=f"{directory}:{os.environ['PATH']}")


@pytest.fixture
def reader(tmp_path):
    """The environment and the directory of somebody who reads README.md."""
    return {"env": program_as_a_reader_has_it(tmp_path), "cwd": tmp_path}


def test_the_demo_finds_its_cache_and_sends_nothing(client, router, reader):
    lines = demo().splitlines()
    assert len(lines) == 3
    before = client.packets_sent()
    script = demo() + f"kill %1; wait; {lines[2]}\n"
    result = client.run("bash", "-m", "-c", script, timeout=DEMO_SECONDS, check=False, **reader)
    verdicts = re.findall(r"^# (?:FOUND|NOT FOUND) .*", result.stdout, re.MULTILINE)
    assert len(verdicts) == 2, result
    assert verdicts[0].startswith("# FOUND") and "127.0.0.1:8080" in verdicts[0]
    assert verdicts[1].startswith("# NOT FOUND") and "port closed" in result.stdout
    assert "substituters = http://127.0.0.1:8080?priority=30 https://cache.nixos.org" in result.stdout
    assert client.packets_sent() == before


def test_every_command_of_the_program_is_one(client, router, reader):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("cache-resolver ")]
    commands += re.findall(r"`(cache-resolver --[^`]*)`", README)
    assert len(commands) >= 3
    for command in commands:
        result = client.run("bash", "-c", f"{command} --methods hosts --dry-run", check=False, **reader)
        assert result.returncode == 0, f"{command}: {result.stderr}"


def test_every_option_is_one():
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(re.findall(r"`[^`]*`", prose))))
    said = (REPOSITORY / "initrd/cache-resolver.8").read_text().replace("\\-", "-")
    known = {f"--{name}" for name in re.findall(r"\bFl -([a-z-]+)|, -([a-z-]+)", said) for name in name}
    others = {"--document-private-items", "--extra-experimental-features", "--open", "--uninstall"}
    assert len(options) > 5 and options - others <= known


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "nix/README.md", "initrd/README.md",
                                  "docs/how-it-works.md"])
def test_links_lead_somewhere(name):
    document = REPOSITORY / name
    for link in re.findall(r"\]\(([^)]*)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_nobody_elses_key_is_in_a_snippet_to_copy():
    for name, heading in (("README.md", "## For the house"), ("nix/README.md", "### The house")):
        before, _, after = (REPOSITORY / name).read_text().partition(heading)
        assert after and "oio0pk" not in before and "nixosModules.waterbug" not in before


@pytest.mark.parametrize("name", SCENES)
def test_the_picture_is_of_this_program(name):
    picture = (REPOSITORY / f"tests/pictures/{name}.svg").read_text()
    assert f"tests/pictures/{name}.svg" in README
    assert not re.search(r"(href|src|url\()=?['\"]?https?:", picture), "it takes nothing from the network"
    shown = "\n".join(html.unescape(line).replace("\xa0", " ") for line in _lines(picture))
    assert OPTIONS in shown
    # Where the machine is busy the next method has begun before an answer is there.
    runs = [words(run_scene(name))]
    while runs[-1] != words(shown) and len(runs) < RUNS:
        runs.append(words(run_scene(name)))
    assert runs[-1] == words(shown)


def _lines(picture):
    """The lines of text in a picture of rich's: what stands at the same height is one."""
    lines = {}
    for x, y, text in re.findall(r'<text [^>]*\bx="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', picture):
        lines.setdefault(float(y), []).append((float(x), text))
    return ["".join(text for _, text in sorted(lines[y])) for y in sorted(lines)]


def test_it_sends_what_the_table_says(lan, client, router):
    lan.host("printer", 20)
    lan.host("television", 21)
    client.run("ip", "route", "add", "default", "via", router.address)
    router.serve_dns("--address=/lan/")
    counter = client.start(PYTHON, "-c", COUNT)
    wait_until(lambda: "ready" in counter.log.read_text(), "the counter")
    assert client.resolve().address is None
    time.sleep(0.1)
    client.stop(counter)
    counts = json.loads(counter.log.read_text().splitlines()[-1])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if "| " in line]
    most = {row[0]: int(row[3]) for row in rows if len(row) == 4 and row[3].isdigit()}
    assert set(counts) - {"in connections"} == set(most)
    # The sweep's figure is what two passes take; an ARP request of the kernel's own is one of them.
    for name, count in most.items():
        assert count / 2 <= counts[name] <= count + (8 if "ARP" in name else 0), counts


def test_nix_says_that_it_needs_the_key(lan, client, tmp_path):
    paths, content, _ = make_binary_cache(tmp_path)
    cache = lan.host("cache", 141)
    # As it is of what has been built: what has been added by its content needs no key.
    info = next(content.glob("*.narinfo"))
    info.write_text(re.sub(r"^CA: .*\n", "", info.read_text(), flags=re.MULTILINE))
    cache.serve_cache(content)
    store = f"local?root={tmp_path}/mine"
    result = client.run(
        "nix-store", "--store", store, "--realise", paths[0], check=False,
        env=dict(os.environ, HOME=str(tmp_path), NIX_CONFIG=f"substituters = http://{cache.address}:9999/system"))
    said = re.search(r"\*\*Found but unused.*?\"(.*?)\"", README, re.DOTALL).group(1)
    assert result.returncode != 0 and said in result.stderr, result.stderr
    # What the four lines ask of Nix.
    lines = next(block for block in blocks("sh") if "path-info" in block).splitlines()
    asked = re.sub(r"http://\S+ \S+", f"http://{cache.address}:9999/system {paths[0]}", lines[3])
    feature = re.search(r"`(--extra-experimental-features [^`]*)`", README).group(1)
    has = client.run("bash", "-c", asked.replace("nix ", f"nix {feature} ", 1), env=dict(os.environ, HOME=str(tmp_path)))
    assert has.stdout.strip() == paths[0]
