"""Hosts that say what no honest program says, or not when it would: run on a host of a LAN.

    forge.py mdns 46 ADDRESS...    answers each question of multicast DNS with these addresses;
                                   4, 6 or 46: which IP it speaks
    forge.py dns FILE ADDRESS      a DNS server that is silent until FILE is there
    forge.py ping ADDRESS...       answers each ping of everybody in the name of these addresses
    forge.py router FILE           a router that introduces itself, by IPv6, when FILE is there
    forge.py beacon 46 SERVICES    announces services as nix-cache-beacon does; a list of them in JSON,
                                   each with type, name, port, hostname, addresses and text

The addresses of one answer of multicast DNS are in packets of sixteen.
"""

import ipaddress
import itertools
import json
import pathlib
import select
import socket
import struct
import sys
import time

from lan import PYTHON, wait_until

INTERFACE = "eth0"
MDNS_PORT = 5353
MDNS_GROUPS = {"4": "224.0.0.251", "6": "ff02::fb"}
RECORDS_PER_PACKET = 16
IP_HEADER, ECHO_REPLY, ECHO_REQUEST = 20, 0, 8
ROUTER_ADVERTISEMENT = 134
NAME_ENDS = b"\0"
A, PTR, TXT, AAAA, SRV, NSEC = 1, 12, 16, 28, 33, 47
SHARED, UNIQUE, UNICAST = 1, 0x8001, 0x8000  # classes of records, and a question's bit (RFC 6762 §10.2, §5.4)


def checksum(data):
    """RFC 1071."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def record(owner, address):
    """An address record; the owner is in wire form."""
    packed = ipaddress.ip_address(address).packed
    kind = {4: 1, 16: 28}[len(packed)]
    return owner + struct.pack(">HHIH", kind, 1, 60, len(packed)) + packed


def question_of(message, start=12):
    """A question's name, and the whole question: the first one's."""
    end = message.index(NAME_ENDS, start) + 1
    return message[start:end], message[start:end + 4]


def questions_of(message):
    """All of them, where no name points to another."""
    start = 12
    for _ in range(*struct.unpack(">H", message[4:6])):
        owner, question = question_of(message, start)
        start += len(question)
        yield owner, question


def mdns_socket(group):
    """Hears the group on our interface."""
    index = socket.if_nametoindex(INTERFACE)
    if ":" in group:
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("::", MDNS_PORT))
        membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", MDNS_PORT))
        membership = socket.inet_aton(group) + struct.pack("@4xi", index)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    return s


def speak_mdns(versions, *addresses):
    """Answers whoever asks, and nobody else."""
    sockets = [mdns_socket(MDNS_GROUPS[version]) for version in versions]
    while True:
        for s in select.select(sockets, [], [])[0]:
            query, peer = s.recvfrom(9000)
            if query[2] & 0x80:
                continue
            owner, _ = question_of(query)
            for start in range(0, len(addresses), RECORDS_PER_PACKET):
                records = [record(owner, a) for a in addresses[start:start + RECORDS_PER_PACKET]]
                header = query[:2] + struct.pack(">5H", 0x8400, 0, len(records), 0, 0)
                s.sendto(header + b"".join(records), peer)


class Message:
    """A message as Go's miekg/dns composes it: it points back to every name that it has met, but not from
    where a record must not."""

    def __init__(self, identifier, answers, extras):
        self.bytes = identifier + struct.pack(">5H", 0x8400, 0, len(answers), 0, len(extras))
        self.met = {}
        for each in answers + extras:
            self.add(*each)

    def name(self, labels, compress):
        """Appends a name."""
        while labels:
            if labels not in self.met:
                self.met[labels] = len(self.bytes)
            elif compress:
                self.bytes += struct.pack(">H", 0xC000 | self.met[labels])
                return
            self.bytes += bytes([len(labels[0])]) + labels[0]
            labels = labels[1:]
        self.bytes += NAME_ENDS

    def add(self, owner, kind, rdclass, lifetime, *data):
        """Appends a record; its data are bytes and names."""
        self.name(owner, True)
        self.bytes += struct.pack(">HHIH", kind, rdclass, lifetime, 0)
        start = len(self.bytes)
        for part in data:
            if isinstance(part, bytes):
                self.bytes += part
            else:
                self.name(part, kind == PTR)
        length = struct.pack(">H", len(self.bytes) - start)
        self.bytes = self.bytes[:start - 2] + length + self.bytes[start:]


def beacon_records(type, name, port, hostname, addresses, text=()):
    """What nix-cache-beacon says of a service (github.com/betamos/zeroconf). A TXT record of no strings
    has no data at all."""
    def split(name):
        return tuple(label.encode() for label in name.split("."))
    kind, host = split(f"{type}.local"), split(hostname)
    path = (name.encode(), *kind)
    packed = [ipaddress.ip_address(address).packed for address in addresses]
    strings = [string.encode() for string in text]
    return [
        (kind, PTR, SHARED, 4500, path),
        (split("_services._dns-sd._udp.local"), PTR, SHARED, 4500, kind),
        (path, SRV, UNIQUE, 120, struct.pack(">HHH", 0, 0, port), host),
        (path, TXT, UNIQUE, 4500, *(bytes([len(string)]) + string for string in strings)),
        (path, NSEC, UNIQUE, 4500, path, b"\0\5\0\0\x80\0\x40"),
        *((host, {4: A, 16: AAAA}[len(address)], UNIQUE, 120, address) for address in packed),
        (host, NSEC, UNIQUE, 120, host, b"\0\4\x40\0\0\x08"),
    ]


def speak_beacon(versions, services):
    """Like it, goes by name and class of a question, not by its type; answers each in a packet of its own, to
    everybody, or to the one who asked if that is asked for."""
    known = [beacon_records(**service) for service in json.loads(services)]
    groups = {mdns_socket(MDNS_GROUPS[version]): MDNS_GROUPS[version] for version in versions}
    while True:
        for s in select.select(list(groups), [], [])[0]:
            query, peer = s.recvfrom(9000)
            if query[2] & 0x80:
                continue
            for (owner, question), records in itertools.product(questions_of(query), known):
                rdclass, = struct.unpack(">H", question[-2:])
                answers = [each for each in records if each[2] == rdclass
                           and b"".join(bytes([len(label)]) + label for label in each[0]) + NAME_ENDS == owner]
                extras = [each for each in records if each not in answers]
                if answers:
                    to = peer if rdclass & UNICAST else (groups[s], MDNS_PORT)
                    s.sendto(Message(query[:2], answers, extras).bytes, to)


def serve_dns(path, address):
    """Answers everything that was asked at once when the file is there."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", 53))
    held = []
    while True:
        if select.select([s], [], [], 0.02)[0]:
            held.append(s.recvfrom(2000))
        while held and pathlib.Path(path).exists():
            query, peer = held.pop()
            owner, question = question_of(query)
            is_a = question.endswith(b"\0\1\0\1")
            header = query[:2] + struct.pack(">5H", 0x8580, 1, int(is_a), 0, 0)
            s.sendto(header + question + (record(owner, address) if is_a else b""), peer)


def answer_pings(*addresses):
    """From our Ethernet address, and others' IPv4 addresses."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    s.bind((INTERFACE, 0x0800))
    while True:
        packet, link = s.recvfrom(2000)
        message = packet[IP_HEADER:]
        if packet[9] != socket.IPPROTO_ICMP or message[0] != ECHO_REQUEST:
            continue
        reply = bytes([ECHO_REPLY, 0, 0, 0]) + message[4:]
        reply = reply[:2] + checksum(reply + b"\0" * (len(reply) % 2)) + reply[4:]
        for address in addresses:
            header = struct.pack(">BBHHHBBH", 0x45, 0, IP_HEADER + len(reply), 0, 0, 64, 1, 0)
            ends = socket.inet_aton(address) + packet[12:16]
            header = header[:10] + checksum(header + ends) + ends
            s.sendto(header + reply, (INTERFACE, 0x0800, 0, 0, link[4]))


def introduce_router(path):
    """RFC 4861 §4.2: a router for half an hour, no prefix."""
    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    message = struct.pack(">BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, 1800, 0, 0)
    s.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(INTERFACE)))


COMMANDS = {
    "mdns": speak_mdns,
    "dns": serve_dns,
    "ping": answer_pings,
    "router": introduce_router,
    "beacon": speak_beacon,
}


def start(host, command, *words):
    """Starts one of these on a host, and waits until it hears what it is to answer."""
    process = host.start(PYTHON, __file__, command, *words)
    kinds = {"mdns": ("u", MDNS_PORT), "beacon": ("u", MDNS_PORT), "dns": ("u", 53)}
    if command in kinds:
        kind, port = kinds[command]
        host.wait_for_port(port, kind)
    elif command == "ping":
        wait_until(lambda: host.run("ss", "-H", "-0").stdout.strip(), "forge.py ping")
    return process


if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
