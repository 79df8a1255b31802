"""ICC profiles made by hand: a matrix one for RGB, a curve for gray, a table for CMYK."""

from __future__ import annotations

import struct


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(0.9642, 1, 0.8249), **tags}
    body, table, place = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"test", 0x02400000, kind, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _fixed(0.9642, 1, 0.8249)
    head = head.ljust(128, b"\0")
    whole = head + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def rgb(gamma: float = 1.8) -> bytes:
    """Rec. 2020-like primaries (adapted to D50)."""
    curve = _gamma(gamma)
    matrix = {b"rXYZ": _xyz(0.6734, 0.2790, -0.0019), b"gXYZ": _xyz(0.1656, 0.6753, 0.0300)}
    matrix |= {b"bXYZ": _xyz(0.1251, 0.0456, 0.7969)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**matrix, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def gray(gamma: float = 1.0) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk() -> bytes:
    """A press whose lightness falls by 20 for each ink but 90 for black, and whose colours are weak."""
    grid = []
    for c in (0, 1):
        for m in (0, 1):
            for y in (0, 1):
                for k in (0, 1):
                    light = max(0, 100 - 20 * (c + m + y) - 90 * k)
                    grid += [round(light * 2.55), 128 + 20 * (m - c), 128 + 20 * (y - m)]
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += ramp * 4 + bytes(grid) + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})
