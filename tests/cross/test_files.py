"""`hosts(5)` and `resolv.conf(5)` as glibc reads them, and orders by glibc's addresses, in generated files.

Where we mean to read a file differently, a row of a table says why, and has the cure: what the file would have to be
for glibc to read it as we do. glibc's reading of the cured file has to be ours of the original, and without each of
the rows it must not be, in some file: what is not needed has no place there."""

import ipaddress
import os
import random
import re
import socket
from typing import Callable, NamedTuple

import pytest

# Files of each kind.
FILES = 600
# The same files every day, and others when asked for.
SEED = int(os.environ.get("CACHE_RESOLVER_SEED", 7))
# Bytes of a line that we keep; src/facts/lines.rs.
LINE_MAX = 4096

NAME = "waterbug.lan"
NAMES = [NAME, NAME, NAME, "WaterBug.LAN", NAME + ".", NAME + "..", "waterbug", "x" + NAME, NAME + ".x", "other", "#",
         "#" + NAME, NAME + "#x", "中", "."]
GOOD = ["10.0.0.5", "10.0.0.6", "192.168.1.200", "fd00::5", "FD00:0:0::0:6", "fe80::1%lo", "10.9.8.7", "172.16.0.1"]
ADDRESSES = ["10.0.0.5", "10.0.0.6", "192.168.1.200", "fd00::5", "FD00:0:0::0:6", "2001:db8::1", "::1", "0.0.0.0", "::",
             "224.0.0.251", "ff02::fb", "255.255.255.255", "::ffff:10.0.0.7", "::10.0.0.8", "fe80::1", "fe80::1%lo",
             "fe80::2%1", "fe80::1%gone", "fe80::1%0", "fe80::1%", "fd00::1%lo", "fd00::1%gone", "10.0.0.1%lo",
             "10.0.0.256", "10.1", "10.0.0", "010.0.0.9", "0x0a000001", "10.0.0.1.", "1.2.3.4.5", "[fd00::1]",
             "fd00:::1", "1:2:3:4:5:6:7::", "1::2:3:4:5:6:7:8", "12345::", "00001::", "::1.2.3", "+1.2.3.4",
             "10.0.0.5:53", NAME, ""]
GAPS = [" ", " ", " ", "\t", "  ", " \t ", "\r", "\x0b", "\x0c", "\xa0"]
ENDS = ["\n"] * 9 + ["\r\n", " \n", "\t\n", "\n\n", "\0\n", "\r\r\n", "\x0c\n", " #x\n", ";x\n", "\xff\n"]


class Difference(NamedTuple):
    """A row: what we read differently, why, and what the file would have to be."""
    what: str
    why: str
    cure: Callable


class Found(NamedTuple):
    """What glibc has found, for the rows that are about that."""
    first: list
    second: list


def lines_of(change):
    """The cure of each line, which is gone where that is None."""
    def cure(content):
        ended, lines = content.endswith(b"\n"), content.split(b"\n")
        lines = [line for line in map(change, lines[:-1] if ended else lines) if line is not None]
        return b"\n".join(lines) + (b"\n" if ended else b"")
    return cure


def text_of(line):
    """A line of text, or what stands before its comment."""
    for text in (line, line.split(b"#")[0]):
        try:
            text.decode()
            return text
        except UnicodeDecodeError:
            pass
    return None


# Of both files.
LINES = [
    Difference("a NUL byte", "is a letter like any other; for glibc it ends the line",
               lines_of(lambda line: line.replace(b"\0", b"x"))),
    Difference("a line that is no UTF-8", "is passed over, unless it is so only after a #: names and addresses are text",
               lines_of(text_of)),
    Difference("a line of 4 KiB", "is passed over: memory is bounded",
               lines_of(lambda line: line if len(line) < LINE_MAX else None)),
]


def unique(items):
    return list(dict.fromkeys(items))


def is_nobody(address):
    address = ipaddress.ip_address(address)
    return address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255"


# `Found` is the IPv4 and the IPv6 addresses.
HOSTS_ANSWERS = [
    Difference("an address nobody has", "0.0.0.0 and the like block a name: no candidates",
               lambda found: Found(*([it for it in addresses if not is_nobody(it)] for addresses in found))),
    Difference("the same address twice", "is tried once", lambda found: Found(*map(unique, found))),
    Difference("IPv4 in IPv6's clothes", "is IPv4; glibc gives it as both",
               lambda found: Found(found.first, [it for it in found.second if not it.startswith("::ffff:")])),
    Difference("::1", "is IPv6; glibc gives 127.0.0.1 as well, which no file here has",
               lambda found: Found([it for it in found.first if it != "127.0.0.1"], found.second)),
    Difference("more than sixteen addresses", "are the first sixteen: candidates are bounded",
               lambda found: Found(found.first[:16], found.second) if not found.second else found),
]
HOSTS_LINES = [
    *LINES,
    Difference("a final dot", "waterbug.lan. is waterbug.lan",
               lines_of(lambda line: re.sub(rb"(?i)(?<=[ \t\r\f])(waterbug\.lan)\.(?=[ \t\r\f#\n]|$)", rb"\1", line))),
    Difference("an indented last line without an end", "is whole; glibc loses its last letters",
               lambda content: content if content.endswith(b"\n") else content + b"\n"),
    Difference("a vertical tab", "is a letter like any other; for glibc it is a space",
               lines_of(lambda line: line.replace(b"\x0b", b"x"))),
]


def words_of(line):
    return re.split(rb"[ \t]+", line.strip(b" \t"))


def keyword(line, *keywords):
    """The words after one of the keywords, if the line begins with it."""
    word, *rest = words_of(line)
    return rest if word in keywords and rest else None


def parses(parse, word):
    try:
        parse(word)
    except (OSError, ValueError):
        return False
    return True


def is_odd_server(line):
    """Whether glibc takes that for a server and we do not."""
    word = (keyword(line, b"nameserver") or [b""])[0].decode("latin-1")
    address, _, zone = word.partition("%")
    if parses(ipaddress.IPv6Address, address):
        return "%" in word and zone != "lo" and (not zone.isdigit() or int(zone) == 0)
    return parses(socket.inet_aton, word) and not parses(ipaddress.IPv4Address, word)


def same_server(seen):
    """Keeps the first line of each server."""
    def change(line):
        server = (keyword(line, b"nameserver") or [None])[0]
        if server is None or server.lower() not in seen:
            seen.add(server and server.lower())
            return line
        return None
    return change


def domain_of_words(line):
    rest = keyword(line, b"domain")
    return b"search " + b" ".join(rest) if rest else line


RESOLV_CONF_LINES = [
    *LINES,
    Difference("`sortlist`", "is nothing to us; glibc 2.36 reads one with a letter beyond ASCII for ever",
               lines_of(lambda line: None if line.lstrip().startswith(b"sortlist") else line)),
    Difference("an indented line", "is a line like any other; for glibc a comment",
               lines_of(lambda line: line.lstrip(b" \t\r\f"))),
    Difference("a carriage return or a form feed", "is a space: files come from other systems",
               lines_of(lambda line: re.sub(rb"[\r\f]+", b" ", line).rstrip(b" "))),
    Difference("an address of inet_aton(3), a zone that is not here", "10.1, 010.0.0.9, fe80::1%gone are no servers",
               lines_of(lambda line: None if is_odd_server(line) else line)),
    Difference("a server of this host", "is 127.0.0.1, with whatever number it is written",
               lines_of(lambda line: re.sub(rb"^(nameserver[ \t]+)(0\.0\.0\.0|::)(?=[ \t]|$)", rb"\g<1>127.0.0.1",
                                            line))),
    Difference("the same server twice", "is asked once", lambda content: lines_of(same_server({None}))(content)),
    Difference("several words after `domain`", "are domains, as after `search`", lines_of(domain_of_words)),
]
# `Found` is the servers and the domains.
RESOLV_CONF_ANSWERS = [
    Difference("more than four domains", "are the first four: questions are bounded",
               lambda found: Found(found.first, found.second[:4])),
]


def cured(content, rows, without=None):
    """A file, or what was found in it, after the cures."""
    for row in rows:
        content = content if row is without else row.cure(content)
    return content


def compare(kind, files, ours, theirs, of_lines, of_answers, agree):
    """Whether `agree(ours, theirs of the cured file)` for all files, and not without one of the rows."""
    contents = [cured(content, of_lines) for content in files]
    answers = theirs(contents)
    for file, content, our, their in zip(files, contents, ours, answers):
        their = cured(their, of_answers)
        assert agree(our, their), f"{kind}: we read {our}, glibc {their}, in {file!r}, cured {content!r}"
    print(f"\n{kind}: {len(files)} files, {sum(map(agree, ours, theirs(files)))} read as by glibc, seed {SEED}")
    for row in [*of_lines, *of_answers]:
        others = [cured(content, of_lines, row) for content in files]
        numbers = [number for number, content in enumerate(others) if row in of_answers or content != contents[number]]
        found = [answers[number] for number in numbers] if row in of_answers else theirs([others[it] for it in numbers])
        needed = sum(not agree(ours[number], cured(their, of_answers, row)) for number, their in zip(numbers, found))
        print(f"{needed:5} {row.what}: {row.why}")
        assert needed, f"no file needs '{row.what}'"


@pytest.fixture
def readings(understood, glibc, tmp_path):
    """Writes files, and asks both of them."""
    def ask(kind, files, asked):
        paths = []
        for number, content in enumerate(files):
            paths.append(tmp_path / str(number))
            paths[-1].write_bytes(content)
        answers = asked([f"{kind} {path}" for path in paths])
        return [[part.strip(" ") for part in answer.split("|")] for answer in answers]
    return lambda kind, files: ask(kind, files, understood), lambda kind, files: ask(kind, files, glibc)


def encoded(text):
    """Text as it is, but for a letter that is a byte of its own, and one that sometimes is."""
    content = text.encode().replace("\xff".encode(), b"\xff")
    return content.replace("\xa0".encode(), b"\xa0") if len(text) % 2 else content


def address(rng):
    return rng.choice(GOOD if rng.random() < 0.6 else ADDRESSES)


def hosts_file(rng):
    lines = []
    for _ in range(rng.randrange(1, 8)):
        names = [rng.choice(NAMES) for _ in range(rng.randrange(4))]
        lines.append(rng.choice(["", "", "", " ", "\t", "#"]) + address(rng)
                     + "".join(rng.choice(GAPS) + name for name in names) + rng.choice(ENDS))
    if rng.random() < 0.05:
        lines = [f"10.0.{number}.1 {NAME}\n" for number in range(20)]
    if rng.random() < 0.05:
        lines.append(f"\t10.0.0.66 {NAME}")
    return finished(rng, lines, f"10.0.0.77 {NAME}")


def finished(rng, lines, beginning):
    if rng.random() < 0.05:
        lines.insert(rng.randrange(len(lines)), rng.choice([NAME + " ", "x", " "]) * rng.choice([400, 5000]) + "\n")
    if rng.random() < 0.1:
        lines.insert(0, beginning + " " * rng.randrange(LINE_MAX - 60, LINE_MAX + 10) + NAME + "\n")
    content = encoded("".join(lines))
    if rng.random() < 0.15 and content:
        content = bytearray(content)
        content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.2:
        content = content.removesuffix(b"\n")
    return bytes(content[:rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


def test_hosts(readings):
    """The hosts file."""
    rng = random.Random(SEED)
    files = [hosts_file(rng) for _ in range(FILES)]
    ask_us, ask_glibc = readings
    ours = [by_family(spelt(answer[0].split())) for answer in ask_us("hosts", files)]
    assert sum(any(found) for found in ours) > FILES / 4
    compare("hosts", files, ours, lambda contents: [Found(*(spelt(part.split()) for part in answer[:2]))
                                                    for answer in ask_glibc("hosts", contents)],
            HOSTS_LINES, HOSTS_ANSWERS, lambda our, their: our == their)


def by_family(addresses):
    return Found([it for it in addresses if ":" not in it], [it for it in addresses if ":" in it])


def resolv_conf_file(rng):
    lines = []
    for _ in range(rng.randrange(1, 12)):
        keyword = rng.choice(["nameserver"] * 12 + ["search", "search", "domain", "options", "sortlist", "NAMESERVER",
                                                   "nameserver:", "searchx", "#nameserver", ";nameserver", "# search"])
        domains = ["lan", "example.org", "Corp.Example.", ".", "a", "b", "c", "d", "x" * 70, "#", "中"]
        options = ["ndots:1", "timeout:1", "rotate", "edns0", "x" * 300, "use-vc"]
        nets = ["10.0.0.0", "10.0.0.0/255.0.0.0", "172.16.0.0&255.0.0.0"] * 5 + ["中"]
        count = rng.choice([0, 1, 1, 1, 1, 2, 6])
        words = [address(rng) if keyword.lower().strip("#;:") == "nameserver" else
                 rng.choice({"options": options, "sortlist": nets}.get(keyword, domains)) for _ in range(count)]
        lines.append(rng.choice([""] * 9 + [" ", "\t"]) + keyword
                     + "".join(rng.choice(GAPS) + word for word in words) + rng.choice(ENDS))
    return finished(rng, lines, "nameserver 10.0.0.78")


def test_resolv_conf(readings):
    """The servers and domains. We ask up to eight servers, glibc three, which are our first three."""
    rng = random.Random(SEED)
    files = [resolv_conf_file(rng) for _ in range(FILES)]
    ask_us, ask_glibc = readings
    ours = [Found(servers(first.split()), second.replace("\0", "x").split(" "))
            for first, second in ask_us("resolv.conf", files)]
    assert sum(len(found.first) > 3 for found in ours) > FILES / 30
    compare("resolv.conf", files, ours, lambda contents: [
        Found(spelt(re.sub(r"%0\b", "", first.replace(" %", "%")).split()), second.split(" "))
        for first, second in ask_glibc("resolv.conf", contents)],
            RESOLV_CONF_LINES, RESOLV_CONF_ANSWERS,
            lambda our, their: (our.first[:3], our.second) == their)


def servers(remotes):
    """Their addresses: all ports are 53."""
    assert all(remote.endswith(":53") for remote in remotes)
    return spelt(remote[:-3].strip("[]") for remote in remotes)


def spelt(addresses):
    """Addresses spelt alike, and the word for a reading without an end."""
    return [it if it == "endless" else str(ipaddress.ip_address(it)) for it in addresses]


def ordered(content):
    """What the file orders, its addresses read by glibc: the forms are ours."""
    try:
        lines = [line.strip(" \t\r\f") for line in content.decode().replace("\r\n", "\n").split("\n")]
    except UnicodeDecodeError:
        return "nothing"
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        return "nothing"
    if lines[0] == "none":
        return "none"
    match = re.fullmatch(r"\[([^]]*:[^]]*)\](?::([0-9]+))?|([^:]*)(?::([0-9]+))?|([^\[]*:[^\[]*:.*)", lines[0])
    if not match:
        return "nothing"
    address = match[1] or match[3] or match[5] or ""
    port = int(match[2] or match[4] or 9999)
    for family in socket.AF_INET, socket.AF_INET6:
        try:
            read = ipaddress.ip_address(socket.inet_pton(family, address))
        except (OSError, ValueError):
            continue
        if read.version == 6 and read.ipv4_mapped:
            if lines[0].startswith("["):
                return "nothing"
            read = read.ipv4_mapped
        if is_nobody(read) or read.version == 6 and read.is_link_local or not 0 < port < 65536:
            return "nothing"
        return f"[{read}]:{port}" if read.version == 6 else f"{read}:{port}"
    return "nothing"


def test_orders(understood, tmp_path):
    """The file of orders: its forms are nobody else's, its addresses are."""
    rng = random.Random(SEED)
    files, paths = [], []
    for number in range(FILES * 5):
        host = address(rng)
        if rng.random() < 0.3:
            host = rng.choice(["none", "None", "".join(rng.choices("0123456789abcf.::%", k=rng.randrange(20)))])
        order = rng.choice(["%s", "%s", "%s", "[%s]", "[%s]", "[%s"]) % host
        order += rng.choice(["", "", "", "", ":80", ":80", ":0", ":", ":65535", ":65536", ":+1", ":080", ":8x",
                             ":99999999999999"])
        before = rng.choice(["", "", "", "# x\n", "\n", " ", "\t", "\r\n"])
        after = rng.choice(["", "\n", "\r\n", " \n\n"])
        content = bytearray((before + order + after).encode())
        if rng.random() < 0.1 and content:
            content[rng.randrange(len(content))] = rng.randrange(256)
        files.append(bytes(content))
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(files[-1])
    answers = understood([f"override {path}" for path in paths])
    assert sum(answer != "nothing" for answer in answers) > FILES / 2
    for content, answer in zip(files, answers):
        assert answer == ordered(content), content
