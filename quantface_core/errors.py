"""The library's exceptions: one small family, so that a caller can catch them all or just one.

Every message is one line that names what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence


class QuantFaceError(Exception):
    """Anything this library refuses to do; the message is meant for the user."""


class ConfigError(QuantFaceError):
    """A setting or an architecture description that does not hold together."""


class ImageError(QuantFaceError):
    """A picture that cannot be read, written or used."""


class ModelError(QuantFaceError):
    """A checkpoint or model file that is missing, damaged, or not what it claims to be."""


class WriteError(QuantFaceError):
    """A file that cannot be written: no room, no permission, no such folder."""


class UsageError(QuantFaceError):
    """A command or call that cannot be carried out as asked."""


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of what a message names, and how many more there are."""
    shown = ", ".join(names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
