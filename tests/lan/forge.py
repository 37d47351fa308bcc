"""Hosts that say what no honest program says, or not when it would: run on a host of a LAN.

    forge.py mdns 46 ADDRESS...    answers each question of multicast DNS with these addresses;
                                   4, 6 or 46: which IP it speaks
    forge.py dns FILE ADDRESS      a DNS server that is silent until FILE is there
    forge.py ping ADDRESS...       answers each ping of everybody in the name of these addresses
    forge.py router FILE           a router that introduces itself, by IPv6, when FILE is there

The addresses of one answer of multicast DNS are in packets of sixteen.
"""

import ipaddress
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


def question_of(message):
    """The first question's name, and the whole question."""
    end = message.index(NAME_ENDS, 12) + 1
    return message[12:end], message[12:end + 4]


def mdns_socket(group):
    """Hears the group on our interface."""
    index = socket.if_nametoindex(INTERFACE)
    if ":" in group:
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("::", MDNS_PORT))
        membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", MDNS_PORT))
        membership = socket.inet_aton(group) + struct.pack("@4xi", index)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
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
}


def start(host, command, *words):
    """Starts one of these on a host, and waits until it hears what it is to answer."""
    process = host.start(PYTHON, __file__, command, *words)
    kinds = {"mdns": ("u", MDNS_PORT), "dns": ("u", 53)}
    if command in kinds:
        kind, port = kinds[command]
        host.wait_for_port(port, kind)
    elif command == "ping":
        wait_until(lambda: host.run("ss", "-H", "-0").stdout.strip(), "forge.py ping")
    return process


if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
