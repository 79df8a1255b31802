"""The library's exceptions: one small hierarchy, so that a caller can catch all of them or just one.

Every message is one line that says what is wrong and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class QuantFaceError(Exception):
    """Base class of all errors that this library raises on purpose; the message is meant for the user."""


class ConfigError(QuantFaceError):
    """A setting or an architecture description that is invalid or contradicts itself."""


class ImageError(QuantFaceError):
    """An image that cannot be read, written or used."""


class ModelError(QuantFaceError):
    """A checkpoint or model file that is missing, damaged, or not what it claims to be."""


class WriteError(QuantFaceError):
    """A file that cannot be written: disk full, no permission, no such folder."""


class UsageError(QuantFaceError):
    """A command or call that cannot be carried out as asked."""


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first `most` names, comma-separated, and how many more there are: "a, b, c and 4 more"; "none" if empty."""
    shown = ", ".join(names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: "; did you mean x?" with the most similar known one, or "" if none is
    similar.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def one_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an exception's message, at most `limit` characters; its class's name where it has no message.

    An OSError's is the system's reason without number and path.
    """
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(reason.strip().partition("\n")[0].split()) or type(error).__name__
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
