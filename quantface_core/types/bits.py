"""Bit widths."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import ConfigError

BITS = range(3, 9)
"""The supported bit widths of weights and activations."""


class Bits(NamedTuple):
    """The bit widths of one layer's weights and activations."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """`w4a6` -> Bits(4, 6). Raises ConfigError for anything else, including widths outside `BITS`."""
        match = re.fullmatch(r"w(\d)a(\d)", text)
        if not match or not {int(match[1]), int(match[2])} <= set(BITS):
            raise ConfigError(f"{text!r:.40} is not wXaY with {widths_in_words()} each, such as w4a6")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


def widths_in_words() -> str:
    """`BITS` as messages name them: "3 to 8 bits"."""
    return f"{BITS.start} to {BITS.stop - 1} bits"


def check_bits(bits: int) -> None:
    """Raise ConfigError for a width outside `BITS`."""
    if bits not in BITS:
        raise ConfigError(f"widths are {widths_in_words()}, got {bits}")
