"""DNS and multicast DNS: what our parsers understand of generated and mutated messages, and what dnspython does.

dnspython reads each message whole, and what we take from one is taken from that. Where the two differ, a row of a
table says why: either it has the cure, what the message would have to be for dnspython to read it as we do, or
the limit that the message breaks. Each row has to be needed."""

import collections
import functools
import ipaddress
import multiprocessing
import os
import random
import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from conftest import ROOT, ask, program

# Messages compared, and those of one worker at a time.
MESSAGES = 100_000
PORTION = 5_000
# The same messages every day, and others when asked for; the test prints it.
SEED = int(os.environ.get("CACHE_RESOLVER_SEED", 7))
# Further messages to compare: a folder of files, of packets as they are.
FOLDER = os.environ.get("CACHE_RESOLVER_PACKETS")

ID = 0x1234
NAME = dns.name.from_text("waterbug.lan")
KINDS = ["A", "AAAA", "SRV", "TXT"]
VIEWS = ["reply", "multicast", "multicast to us", "services"]

# The limits of src/wire: datagrams, multicast messages, records, pointers in a name, aliases, addresses.
DATAGRAM_MAX, MULTICAST_MAX, RECORDS_MAX, HOPS_MAX, ALIASES_MAX, ADDRESSES_MAX = 4096, 9000, 256, 16, 16, 16
HEADER = 12
A, CNAME, PTR, TXT, AAAA, SRV = 1, 5, 12, 16, 28, 33
# dnspython's limit of aliases is one less, and some versions have none of pointers.
dns.message.MAX_CHAIN = ALIASES_MAX + 1
dns.name.MAX_COMPRESSION_POINTER_CHAIN = 100
# Types nobody has: of records that nobody reads, with the zero that others have, to which a pointer may lead; and of
# texts that are handed on as they are.
NOBODYS, NOBODYS_LARGE, RAW_TEXT = 200, 0xef00, 0xefad
FLUSH = 0x8000


# What dnspython understands.

@functools.lru_cache(64)
def parse(packet, is_merged):
    """The message, or None; with sets of records, or with each of them by itself."""
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True, one_rr_per_rrset=not is_merged)
        return message if message.flags & dns.flags.QR and message.opcode() == dns.opcode.QUERY else None
    except (dns.exception.DNSException, ValueError):
        return None


def understand(view, kind, packet):
    """A view of the message, as `understood` shows it."""
    message = parse(packet, False)
    if not message:
        return "malformed"
    if view == "reply":
        return reply(message, kind, packet)
    if view == "services":
        return services(message.answer + message.additional, is_multicast=True)
    is_asked = view == "multicast" or message.id == ID and all(asked.name == NAME for asked in message.question)
    return multicast(message) if is_asked else "malformed"


def spelt(address):
    """As Rust spells it."""
    return str(ipaddress.ip_address(address))


def bounded(addresses):
    return " ".join(list(dict.fromkeys(map(spelt, addresses)))[:ADDRESSES_MAX])


def reply(message, kind, packet):
    # No EDNS is asked for, so the code is that of the header.
    code = message.flags & 15
    if message.id != ID:
        return "malformed"
    if not message.question and code in (1, 2, 4, 5):
        return "Failed"
    if [(asked.name, asked.rdtype, asked.rdclass) for asked in message.question] != \
            [(NAME, dns.rdatatype.from_text(kind), dns.rdataclass.IN)]:
        return "malformed"
    if message.flags & dns.flags.TC:
        return "Truncated"
    if code:
        return "NoSuchName" if code == 3 else "Failed"
    if not message.answer:
        return f"NoRecord({kind.capitalize()})"
    if kind not in ("A", "AAAA"):
        return services(message.answer + message.additional, is_multicast=False)
    try:
        answer = parse(packet, True).resolve_chaining().answer
    except dns.message.ChainTooLong:
        return "malformed"
    return bounded(item.address for item in answer) if answer else f"NoRecord({kind.capitalize()})"


def counting(sets, is_multicast):
    """The records that count, each with its owner."""
    for rrset in sets:
        if rrset.rdclass == dns.rdataclass.IN and (rrset.ttl or not is_multicast):
            yield from ((rrset.name, record) for record in rrset)


def multicast(message):
    return bounded(record.address for owner, record in counting(message.answer + message.additional, True)
                   if owner == NAME and record.rdtype in (A, AAAA))


def wire(name):
    return name.canonicalize().to_wire().hex()


def services(sets, is_multicast):
    said = []
    for owner, record in counting(sets, is_multicast):
        kind = int(record.rdtype)
        if kind == PTR:
            fact = f"PTR,{wire(record.target)}"
        elif kind == TXT:
            fact = "TXT," + b"".join(bytes([len(text)]) + text for text in record.strings).hex()
        elif kind == RAW_TEXT:
            fact = f"TXT,{record.data.hex()}"
        elif kind == SRV:
            rank = record.priority << 16 | record.weight ^ 0xffff
            fact = f"SRV,{rank},{record.port},{wire(record.target)}"
        elif kind in (A, AAAA):
            fact = spelt(record.address)
        else:
            continue
        said.append(f"{wire(owner)},{fact}")
    return " ".join(said)


# Where things stand in a message, whatever is in them.

def after_name(packet, at):
    while True:
        length = packet[at]
        if length >= 0xc0:
            return at + 2
        if length >= 0x40:
            raise IndexError
        at += 1 + length
        if not length:
            return at


class Place:
    """Where a record stands: its section, its owner, its fields, its data."""
    def __init__(self, packet, section, at):
        self.section, self.owner_at = section, at
        self.at = after_name(packet, at)
        self.kind, self.rdclass, self.ttl, length = struct.unpack_from("!HHIH", packet, self.at)
        self.data_at, self.end = self.at + 10, self.at + 10 + length
        if self.end > len(packet):
            raise IndexError

    def is_read(self, view, kind, packet):
        """Whether its data matter to the view."""
        wanted = dns.rdatatype.from_text(kind)
        if view == "reply" and wanted in (A, AAAA):
            return self.section == 1 and self.rdclass == 1 and self.kind in (wanted, CNAME)
        if self.section == 2 or self.rdclass & ~FLUSH != 1 or (not self.ttl and view != "reply"):
            return False
        if view in ("reply", "services"):
            return self.kind in (PTR, TXT, RAW_TEXT, SRV, A, AAAA)
        try:
            return self.kind in (A, AAAA) and dns.name.from_wire(packet, self.owner_at)[0] == NAME
        except dns.exception.DNSException:
            return True

    def is_refused(self, packet):
        """Whether dnspython refuses it for its data, or for where it stands."""
        if self.kind in (dns.rdatatype.OPT, dns.rdatatype.TSIG):
            return True
        try:
            dns.rdata.from_wire(self.rdclass, self.kind, packet, self.data_at, self.end - self.data_at)
        except (dns.exception.DNSException, ValueError):
            return True
        return False


def places(packet):
    """The questions' names, and the records, up to where the message breaks off."""
    names, records = [], []
    try:
        questions, *counts = struct.unpack_from("!HHHH", packet, 4)
        at = HEADER
        for _ in range(questions):
            names.append(at)
            at = after_name(packet, at) + 4
        for section, count in enumerate(counts, 1):
            for _ in range(count):
                records.append(Place(packet, section, at))
                at = records[-1].end
    except (IndexError, struct.error):
        # The name at which it breaks off is read as well.
        names.append(at)
    return names, records


def changed(packet, *fields):
    """The message with other numbers of 16 bits."""
    packet = bytearray(packet)
    for at, number in fields:
        struct.pack_into("!H", packet, at, number)
    return bytes(packet)


# Cures.

def cure_flush(view, kind, packet):
    if view == "reply" and kind in ("A", "AAAA"):
        return packet
    return changed(packet, *((it.at + 2, 1) for it in places(packet)[1] if it.rdclass == FLUSH | 1))


def cure_unread(view, kind, packet):
    return changed(packet, *((it.at, NOBODYS if it.kind < 256 else NOBODYS_LARGE) for it in places(packet)[1]
                             if it.is_refused(packet) and not it.is_read(view, kind, packet)))


def cure_text(view, kind, packet):
    return changed(packet, *((it.at, RAW_TEXT) for it in places(packet)[1]
                             if it.kind == TXT and it.rdclass & ~FLUSH == 1 and it.section != 2))


def cure_sections(view, kind, packet):
    """Without the sections, and behind them the bytes, that the view does not come to."""
    if view != "reply" or len(packet) < HEADER:
        return packet
    if packet[2] & 2 or packet[3] & 15:
        return changed(packet, (6, 0), (8, 0), (10, 0))
    is_over = kind in ("A", "AAAA") or packet[6:8] == b"\0\0"
    return changed(packet, (8, 0), (10, 0)) if is_over else packet


def cure_question(view, kind, packet):
    return packet + bytes(4) if packet[6:12] == bytes(6) and view != "reply" else packet


def cure_ttl(view, kind, packet):
    if view == "reply":
        return packet
    return changed(packet, *((it.at + 4, it.ttl >> 16 & 0x7fff or 0x100) for it in places(packet)[1]
                             if it.ttl >= 1 << 31))


CURES = {
    "a last question that breaks off": ("asks for nothing, and nothing is all it says", cure_question),
    "a section that is not read": ("behind TC, a code, the answer: dnspython refuses the message", cure_sections),
    "the top bit of a class": ("asks multicast receivers to flush, RFC 6762 §10.2: the class is what is below",
                               cure_flush),
    "a time to live of 32 bits": ("is a long one; RFC 2181 §8 has it zero, which multicast takes for goodbye",
                                  cure_ttl),
    "a text whose lengths lie": ("is handed on as it is, and searched as far as they are right", cure_text),
    "a record that nobody asked for": ("may be broken or misplaced, OPT and TSIG too: dnspython refuses the message",
                                       cure_unread),
}


# Limits, which are ours alone: the view is malformed.

def names_read(view, kind, packet):
    names, records = places(packet)
    yield from names
    for it in records:
        yield it.owner_at
        if it.kind in (CNAME, PTR):
            yield it.data_at
        elif it.kind == SRV:
            yield it.data_at + 6


def pieces(packet, at):
    """The pieces of a name: where each begins and ends."""
    found = []
    try:
        start = at
        while True:
            length = packet[at]
            if length >= 0xc0:
                target = (length & 0x3f) << 8 | packet[at + 1]
                found.append((start, at + 2))
                if target >= start:
                    return found
                start = at = target
            elif length:
                at += 1 + length
            else:
                return [*found, (start, at + 1)]
    except IndexError:
        return [*found, (start, len(packet) + 1)]


def any_name(broken):
    return lambda view, kind, packet: any(broken(pieces(packet, at)) for at in names_read(view, kind, packet))


LIMITS = {
    "a name that runs into its own pointer": (
        "is no prior occurrence, RFC 1035 §4.1.4; dnspython reads it, and goes on behind the end of it",
        any_name(lambda found: any(end > before for (before, _), (_, end) in zip(found, found[1:])))),
    "a pointer into the header": ("leads to no name", any_name(lambda found: any(at < HEADER for at, _ in found))),
    "more than sixteen pointers": ("cost too much", any_name(lambda found: len(found) > HOPS_MAX + 1)),
    "more than 256 records": ("cost too much",
                              lambda view, kind, packet: sum(struct.unpack_from("!HHH", packet, 6)) > RECORDS_MAX
                              or struct.unpack_from("!H", packet, 4)[0] > RECORDS_MAX),
    "more bytes than a datagram has": (
        "cost too much", lambda view, kind, packet:
        len(packet) > (DATAGRAM_MAX if view == "reply" else MULTICAST_MAX)),
}


def explain(view, kind, packet, ours):
    """The row that makes it plain why the readings differ: the one that ends it, after those before it."""
    cured = packet
    for row, (_, cure) in CURES.items():
        before, cured = cured, cure(view, kind, cured)
        if cured != before and understand(view, kind, cured) == ours:
            return row
    if ours == "malformed":
        return next((row for row, (_, breaks) in LIMITS.items() if breaks(view, kind, packet)), None)
    return None


# Messages.

LABELS = [b"waterbug", b"lan", b"local", b"WaterBug", b"hive", b"_nix-cache", b"_tcp", b"x" * 63, b"\0.\xff", b"a"]
NAMES = [[b"waterbug", b"lan"]] * 8 + [[b"WATERBUG", b"Lan"], [b"hive", b"lan"], [b"hive", b"local"], [], [b"lan"],
                                       [b"_nix-cache", b"_tcp", b"local"], [b"a", b"_nix-cache", b"_tcp", b"local"]]
TYPES = [A] * 8 + [AAAA] * 5 + [CNAME] * 4 + [PTR, TXT, SRV] * 2 + [2, 6, 13, 15, 35, 39, 41, 43, 46, 47, 64, 250, 255,
                                                                     256, NOBODYS]


class Writer:
    """Makes a message, with names compressed or not."""
    def __init__(self, rng):
        self.rng, self.bytes, self.known = rng, bytearray(HEADER), []

    def name(self, labels=None):
        rng = self.rng
        if labels is None:
            labels = rng.choice(NAMES) if rng.random() < 0.95 else rng.choices(LABELS, k=rng.randrange(9))
        while labels:
            at = next((at for known, at in self.known if known == labels), None)
            if at is not None and rng.random() < 0.7:
                self.bytes += struct.pack("!H", 0xc000 | at)
                return
            if len(self.bytes) < 0x4000:
                self.known.append((labels, len(self.bytes)))
            self.bytes += bytes([len(labels[0])]) + labels[0]
            labels = labels[1:]
        if self.known and rng.random() < 0.03:
            self.bytes += struct.pack("!H", 0xc000 | rng.choice(self.known)[1])
        else:
            self.bytes.append(0)

    def record(self, section, kind):
        rng = self.rng
        kind = rng.choice(TYPES) if rng.random() < 0.3 else kind
        self.name()
        rdclass = rng.choice([1] * 12 + [FLUSH | 1] * 4 + [3, 254, 255, 0, FLUSH | 3])
        ttl = rng.choice([60] * 8 + [0, 1, 120]) if rng.random() < 0.99 else rng.choice([1 << 31, 0xffffffff])
        self.bytes += struct.pack("!HHIH", kind, rdclass, ttl, 0)
        start = len(self.bytes)
        if rng.random() < 0.02:
            self.bytes += rng.randbytes(rng.choice([0, 3, 4, 5, 16, 17]))
        elif kind in (A, AAAA):
            self.bytes += (b"\x0a\0\0" if kind == A else b"\xfd" + bytes(14)) + bytes([rng.randrange(20)])
        elif kind in (CNAME, PTR, 2, 39):
            self.name()
        elif kind == SRV:
            self.bytes += struct.pack("!HHH", rng.randrange(3), rng.randrange(3), rng.choice([9999, 80, 0]))
            self.name()
        elif kind == TXT:
            for text in rng.choices([b"path=/", b"path=/system", b"", b"nix-cache=1"], k=rng.randrange(1, 3)):
                self.bytes += bytes([len(text) + (rng.random() < 0.05)]) + text
        elif kind == 15:
            self.bytes += b"\0\x0a"
            self.name()
        elif kind == 6:
            self.name()
            self.name()
            self.bytes += bytes(20)
        else:
            self.bytes += rng.randbytes(rng.choice([0, 2, 7, 20]))
        length = len(self.bytes) - start + rng.choice([0] * 60 + [1, -1, 300])
        struct.pack_into("!H", self.bytes, start - 2, length & 0xffff)


def pointers(rng, packet, code):
    """Two records: one of nobody's type, in which the owner of the other is led on."""
    start, gap = len(packet) + 11, b""
    match rng.randrange(3):
        case 0:
            # From pointer to pointer to the first name.
            chain = rng.choice([14, 15, 16, 17, 40])
            targets = [HEADER, *range(start, start + 2 * chain, 2)]
            data, target = b"".join(struct.pack("!H", 0xc000 | at) for at in targets[:-1]), targets[-1]
        case 1:
            # To a zero in the header.
            data, target = b"", 4
        case 2:
            # To a label that the pointer is a part of, its end in front of what follows, or within.
            data, target, gap = b"\x04ab", start, rng.choice([b"", b"\0"])
    packet += struct.pack("!BHHIH", 0, NOBODYS, 1, 60, len(data)) + data
    address = b"\x0a\0\0\x01" if code == A else b"\xfd" + bytes(15)
    packet += struct.pack("!H", 0xc000 | target) + gap
    packet += struct.pack("!HHIH", A if code == A else AAAA, 1, 60, len(address)) + address


def message(rng, kind):
    """A message that makes sense, more or less."""
    writer = Writer(rng)
    flags = rng.choice([0x8180] * 10 + [0x8400] * 8 + [0x8183, 0x8182, 0x8185, 0x8380, 0x0100, 0xa800, 0x8580])
    counts = [rng.choice([1] * 12 + [0] * 5 + [2]), rng.choice([0, 1, 1, 2, 3]), rng.choice([0, 0, 0, 0, 1]),
              rng.choice([0, 0, 1, 2])]
    code = dns.rdatatype.from_text(kind)
    for _ in range(counts[0]):
        writer.name([b"waterbug", b"lan"] if rng.random() < 0.95 else None)
        asked = code if rng.random() < 0.95 else rng.choice(TYPES)
        writer.bytes += struct.pack("!HH", asked, rng.choice([1] * 20 + [FLUSH | 1]))
    rare = rng.random()
    if rare < 0.002:
        # So many addresses.
        counts[1:] = [rng.choice([15, 16, 17, 256, 257, 300]), 0, 0]
        for number in range(counts[1]):
            writer.name([b"waterbug", b"lan"])
            writer.bytes += struct.pack("!HHIHHH", A, 1, 60, 4, 0xa00, number)
    elif rare < 0.006:
        counts[1:] = [0, 0, 2]
        pointers(rng, writer.bytes, code)
    elif 0.012 < rare:
        for section, count in enumerate(counts[1:], 1):
            for _ in range(count):
                writer.record(section, code)
    else:
        # A chain of aliases.
        writer.bytes[HEADER:] = b""
        writer.known, counts, flags = [], [1, 0, 0, 0], 0x8180
        writer.name([b"waterbug", b"lan"])
        writer.bytes += struct.pack("!HH", code, 1)
        hops = [[b"waterbug", b"lan"]] + [[b"%d" % hop, b"lan"] for hop in range(rng.choice([2, 14, 15, 16, 17, 30]))]
        for owner, target in [*zip(hops, hops[1:]), (hops[-1], None)]:
            writer.name(owner)
            writer.bytes += struct.pack("!HHIH", CNAME if target else code, 1, 60, 0)
            start = len(writer.bytes)
            if target:
                writer.name(target)
            else:
                writer.bytes += b"\x0a\0\0\x01" if code == A else b"\xfd" + bytes(15)
            struct.pack_into("!H", writer.bytes, start - 2, len(writer.bytes) - start)
            counts[1] += 1
    struct.pack_into("!HHHHHH", writer.bytes, 0, ID if rng.random() < 0.97 else rng.randrange(65536), flags, *counts)
    if rng.random() < 0.003:
        length = rng.choice([DATAGRAM_MAX, DATAGRAM_MAX + 1, MULTICAST_MAX, MULTICAST_MAX + 1])
        writer.bytes += bytes(max(0, length - len(writer.bytes)))
    return bytes(writer.bytes)


def mutated(rng, packet):
    packet = bytearray(packet)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(packet) + 1)
        match rng.randrange(6):
            case 0:
                packet[at:at + 1] = bytes([rng.randrange(256)])
            case 1:
                packet[at:at + 1] = bytes([rng.choice([0, 1, 4, 16, 63, 64, 0xc0, 0xff])])
            case 2:
                packet[at:at + 2] = struct.pack("!H", 0xc000 | rng.randrange(len(packet) + 2))
            case 3:
                del packet[at:at + rng.choice([1, 1, 2, 10, 1000])]
            case 4:
                packet[at:at] = rng.randbytes(rng.choice([1, 1, 2, 10]))
            case 5:
                other = rng.randrange(len(packet) + 1)
                packet[at:at] = packet[other:other + 20]
    return bytes(packet[:20_000])


def compare(kinds, packets):
    """How many readings agree, how often each row is needed, and what nothing explains."""
    answers = ask([program()], [f"dns {kind} {packet.hex()}" for kind, packet in zip(kinds, packets)])
    counts, failures = collections.Counter(), []
    for kind, packet, answer in zip(kinds, packets, answers):
        for view, ours in zip(VIEWS, answer.split("|")):
            theirs = understand(view, kind, packet)
            counts["understood"] += ours != "malformed"
            if theirs == ours:
                counts["alike"] += 1
                continue
            row = explain(view, kind, packet, ours)
            counts[row] += 1
            if not row:
                failures.append(f"{view} {kind} {packet.hex()}\n  ours   {ours}\n  theirs {theirs}")
    return counts, failures


def compare_portion(number):
    rng = random.Random(f"{SEED} {number}")
    kinds, packets = [], []
    for _ in range(PORTION):
        kinds.append(rng.choices(KINDS, [4, 4, 1, 1])[0])
        packet = message(rng, kinds[-1])
        packets.append(mutated(rng, packet) if rng.random() < 0.5 else packet)
    return compare(kinds, packets)


def report(messages, results):
    counts, failures = collections.Counter(), []
    for portion, failed in results:
        counts += portion
        failures += failed
    print(f"\nseed {SEED}: {messages} messages, {messages * len(VIEWS)} readings, {counts['understood']} of sense, "
          f"{counts['alike']} alike")
    for row, (why, _) in (CURES | LIMITS).items():
        print(f"{counts[row]:7} {row}: {why}")
    assert not failures, f"{len(failures)} readings differ, and no row says why:\n" + "\n".join(failures[:5])
    return counts


def test_messages():
    """Those that we make."""
    program()
    with multiprocessing.Pool() as workers:
        counts = report(MESSAGES, workers.imap_unordered(compare_portion, range(MESSAGES // PORTION)))
    assert counts["understood"] > MESSAGES
    for row in CURES | LIMITS:
        assert counts[row], f"no message needs '{row}'"


def test_files():
    """The seeds of the fuzzer, or files of a folder."""
    folder = FOLDER or ROOT / "tests/fuzz/seeds/dns"
    packets = []
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                # A seed begins with the number of a type.
                packets.append(file.read() if FOLDER else file.read()[1:])
    assert packets
    # As they are, and as answers to us.
    packets += [struct.pack("!HH", ID, 0x8400) + packet[4:] for packet in packets if len(packet) >= HEADER]
    kinds = [kind for kind in KINDS for _ in packets]
    report(len(kinds), [compare(kinds, packets * len(KINDS))])
