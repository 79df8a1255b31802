"""Retry Hub requests after transient errors; turn all others into a one-line ModelError with advice."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

from ..errors import ModelError

PAST_THE_END = 416  # the status of a range that a file does not have
_WAITS = (1, 4)  # seconds between attempts that got no further; the client itself waits on 429
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (errno.EIO, errno.EROFS, errno.EFBIG)


class CallersError(Exception):
    """Carries an error of the caller's own through the Hub's client, which might take it for one of its requests."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def retry(work: Callable[[], Any], progress: Callable[[], int], advice: str) -> Any:
    """Try, and try again after a passing failure; attempts that brought something on do not count.

    Raises ModelError with `advice` once it is given up. What is no failure of the Hub, its client or the system ends it
    at once, as it was raised, and so does what a CallersError carries: a progress callback's, say.
    """
    waits, before = iter(_WAITS), progress()
    while True:
        try:
            return work()
        except CallersError as carried:
            raise carried.error from carried.error.__cause__
        except Exception as error:
            if not _of_client(error):
                raise
            if not _passing(error):
                raise ModelError(explained(error, advice)) from error
            if progress() > before:
                waits, before = iter(_WAITS), progress()
            wait = next(waits, None)
            if wait is None:
                raise ModelError(explained(error, advice)) from error
            time.sleep(wait)


def status_of(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _of_client(error: Exception) -> bool:
    """Whether it is of the Hub's client, the system, or an answer that makes no sense.

    The client's version decides what carries its requests, and whether that raises OSError or errors of its own.
    """
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    transport = _package(type(get_session()))
    mine = any(_package(kind) == transport for kind in type(error).__mro__)
    return mine or isinstance(error, (OSError, ValueError)) or status_of(error) is not None


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _passing(error: Exception) -> bool:
    """Whether trying again may help."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled) or getattr(error, "errno", None) in _FULL or _is_local(error):
        return False
    status = status_of(error)
    return status is None or status == 429 or status >= 500


def _is_local(error: Exception) -> bool:
    """Whether the machine's own files are the trouble: requests name none."""
    return isinstance(error, OSError) and (bool(error.filename) or error.errno in _OF_THE_DISK)


def explained(error: Exception, advice: str) -> str:
    """One line: what went wrong and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status, again = status_of(error), "try again: what has arrived is kept"
    if isinstance(error, OfflineModeIsEnabled):
        return f"offline mode is on (HF_HUB_OFFLINE) and the file is not here: turn it off, or {_lower(advice)}"
    if getattr(error, "errno", None) in _FULL:
        return f"the disk is full: make room, then {again}"
    if isinstance(error, OSError) and _is_local(error):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}cannot use the disk ({error.strerror}): check its rights and its health, then {again}"
    if status in (401, 403):
        return f"the Hub denies access ({status}): accept the terms at {_page(advice)}, then `hf auth login`"
    if status == 404:
        return f"the Hub has no such file or repository ({status}), or it is private: see {_page(advice)}"
    if status == PAST_THE_END:
        return f"the file on the Hub changed while it was fetched: {again}"
    if status == 429:
        return f"the Hub wants us to slow down ({status}): wait some minutes or log in, then {again}"
    if status:
        return f"the Hub has trouble ({status}): try later; {again}"
    lines = str(error).strip().splitlines()
    return f"the Hub cannot be used ({lines[0] if lines else type(error).__name__}): {again}, or {_lower(advice)}"


def _page(advice: str) -> str:
    return next(word for word in advice.split() if word.startswith("https://"))


def _lower(advice: str) -> str:
    return f"get it from {advice}" if advice.startswith("https://") else advice
