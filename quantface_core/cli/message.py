"""One line for the user, on standard error; and standard output, for names of any script."""

from __future__ import annotations

import os
import sys

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def allow_any_name() -> None:
    """Have standard output escape what its encoding lacks, as standard error does.

    On Windows a pipe or file that it goes to is in the system's code page, where a Chinese folder ends in an error.
    """
    if getattr(sys.stdout, "errors", "") == "strict":  # None without a console
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def open_missing_error() -> None:
    """Without a standard error, as `2>&-` leaves it or Windows without a console, drop what would be written there.

    `print` would write it to standard output instead, amid the results.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def flush_output() -> None:
    """Write what standard output still holds. Raises BrokenPipeError where its reader has gone, as `head` goes."""
    if sys.stdout:  # None without a console
        sys.stdout.flush()


def drop_unread_output() -> bool:
    """Whether standard output's reader has gone; what it did not read is dropped, or Python would complain at its end.

    Call it after a BrokenPipeError: it writes an empty line to see.
    """
    try:
        print(flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def tell(text: str) -> None:
    """Print a line; control characters, which a file's name may contain, are escaped."""
    print(one_line(text), file=sys.stderr)


def one_line(text: str) -> str:
    """A text without control characters: those would break a line, or command the terminal."""
    return text.translate(_CONTROLS)
