"""The bit depth of a JPEG XL image, parsed from its header: the decoder returns 8 bits whatever the depth.

Names and order of the fields are those of ISO/IEC 18181-1, annex D.
"""

from __future__ import annotations

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_Choice = tuple[int, int]  # what to add, how many bits to read

_SIDE: tuple[_Choice, ...] = ((1, 9), (1, 13), (1, 18), (1, 30))
_INTEGER: tuple[_Choice, ...] = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOAT: tuple[_Choice, ...] = ((32, 0), (16, 0), (24, 0), (1, 6))
_TICKS: tuple[_Choice, ...] = ((100, 0), (1000, 0), (1, 10), (1, 30))
_TICK_PARTS: tuple[_Choice, ...] = ((1, 0), (1001, 0), (1, 8), (1, 10))
_LOOPS: tuple[_Choice, ...] = ((0, 0), (0, 3), (0, 16), (0, 32))


class _Bits:
    """A codestream's bits, the lowest of each byte first; zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._place = int.from_bytes(data[:64], "little"), 0

    def take(self, count: int) -> int:
        taken = self._value >> self._place & ((1 << count) - 1)
        self._place += count
        return taken

    def choose(self, choices: tuple[_Choice, ...]) -> int:
        least, count = choices[self.take(2)]
        return least + self.take(count)


def bits_per_channel(start: bytes) -> int:
    """Bits per channel, from a file's first bytes: mostly 8, 10, 12, 16 or 32.

    8 where the header is not found or holds a preview.
    """
    place = 0 if start.startswith(CODESTREAM) else start.find(CODESTREAM, start.find(b"jxl", len(CONTAINER)))
    if place < 0 or not start.startswith((CODESTREAM, CONTAINER)):
        return 8
    bits = _Bits(start[place + 2 :])
    _skip_size(bits)
    if bits.take(1):  # all default
        return 8
    if bits.take(1):  # extra fields
        bits.take(3)  # orientation
        if bits.take(1):
            _skip_size(bits)  # intrinsic
        if bits.take(1):  # preview
            return 8
        if bits.take(1):  # animation
            for choices in (_TICKS, _TICK_PARTS, _LOOPS):
                bits.choose(choices)
            bits.take(1)
    return bits.choose(_FLOAT if bits.take(1) else _INTEGER)


def _skip_size(bits: _Bits) -> None:
    small = bits.take(1)
    for side in range(2):
        if side and bits.take(3):  # the width as a ratio
            return
        if small:
            bits.take(5)
        else:
            bits.choose(_SIDE)
