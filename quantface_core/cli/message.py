"""One line for the user, on standard error."""

from __future__ import annotations

import sys

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def tell(text: str) -> None:
    """Print a line; control characters, which a file's name may contain, are escaped."""
    print(one_line(text), file=sys.stderr)


def one_line(text: str) -> str:
    """A text without control characters: those would break a line, or command the terminal."""
    return text.translate(_CONTROLS)
