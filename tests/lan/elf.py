"""What the kernel reads of a program (elf(5))."""

import struct

ET_DYN = 3
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
PF_X, PF_W = 1, 2


def assert_static_pie(path):
    """Runs at any address, without a program that loads it; and no memory of it is both writable and executable."""
    octets = path.read_bytes()
    kind, = struct.unpack_from("<H", octets, 16)
    start, = struct.unpack_from("<Q", octets, 32)
    size, count = struct.unpack_from("<HH", octets, 54)
    segments = [struct.unpack_from("<II", octets, start + size * place) for place in range(count)]
    assert kind == ET_DYN
    assert {kind for kind, _ in segments} & {PT_DYNAMIC, PT_INTERP} == {PT_DYNAMIC}
    rights = [flags & (PF_W | PF_X) for kind, flags in segments if kind == PT_LOAD]
    assert sorted(rights) == [PF_X, PF_W]
