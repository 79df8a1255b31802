"""Retry Hub requests after transient errors; turn all others into a one-line ModelError with advice."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

from ..errors import ModelError, one_line

PAST_THE_END = 416  # HTTP status of a range beyond the end of a file
_WAITS = (1, 4)  # seconds between attempts without progress; the client itself waits on 429
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (errno.EIO, errno.EROFS, errno.EFBIG)


class CallersError(Exception):
    """Carries an error of the caller's own callback through the Hub's client, which might treat it as its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def retry(work: Callable[[], Any], advice: str, progress: Callable[[], int] | None = None) -> Any:
    """Call `work` until it succeeds, retrying after transient errors.

    `progress` returns how many bytes of a download have arrived, which the next call of `work` resumes from: an attempt
    that made some resets the count of retries.

    Raises ModelError with `advice` when attempts run out or the error is permanent. An error that comes from neither
    the Hub, its client nor the system propagates unchanged, and so does the error that a CallersError carries (a
    progress callback's, say).
    """
    kept = " (what has arrived is kept)" if progress else ""
    waits, before = iter(_WAITS), progress() if progress else 0
    while True:
        try:
            return work()
        except CallersError as carried:
            raise carried.error from carried.error.__cause__
        except Exception as error:
            if not _of_client(error):
                raise
            if progress and progress() > before:
                waits, before = iter(_WAITS), progress()
            wait = next(waits, None) if _is_transient(error) else None
            if wait is None:
                raise ModelError(explained(error, advice, f"try again{kept}")) from error
            time.sleep(wait)


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error carries; None without one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _of_client(error: Exception) -> bool:
    """Whether an error comes from the Hub's client, the system, or a malformed answer.

    The client's version decides which library sends its requests, and whether that raises OSError or its own errors.
    """
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    transport = _package(type(get_session()))
    mine = any(_package(kind) == transport for kind in type(error).__mro__)
    return mine or isinstance(error, (OSError, ValueError)) or status_of(error) is not None


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _is_transient(error: Exception) -> bool:
    """Whether retrying may help."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled) or getattr(error, "errno", None) in _FULL or _is_local(error):
        return False
    status = status_of(error)
    return status is None or status == 429 or status >= 500


def _is_local(error: Exception) -> bool:
    """Whether the machine's own files caused the error: errors of requests carry no file name."""
    return isinstance(error, OSError) and (bool(error.filename) or error.errno in _OF_THE_DISK)


def explained(error: Exception, advice: str, again: str = "try again") -> str:
    """One line: what went wrong and what to do, `again` or the `advice`, which must hold a page's https:// address."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = status_of(error)
    if isinstance(error, OfflineModeIsEnabled):
        return f"offline mode is on (HF_HUB_OFFLINE): turn it off, or {_lower(advice)}"
    if getattr(error, "errno", None) in _FULL:
        return f"the disk is full: make room, then {again}"
    if isinstance(error, OSError) and _is_local(error):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}cannot use the disk ({error.strerror}): check its permissions and its health, then {again}"
    if status in (401, 403):
        return f"the Hub denies access ({status}): accept the terms at {_page(advice)}, then run `hf auth login`"
    if status == 404:
        return f"the Hub has no such file or repository ({status}), or it is private: see {_page(advice)}"
    if status == PAST_THE_END:
        return f"the file on the Hub changed during the download: {again}"
    if status == 429:
        return f"the Hub limits requests ({status}): wait a few minutes or log in, then {again}"
    if status:
        return f"the Hub has a problem ({status}): wait a few minutes, then {again}"
    return f"the Hub cannot be reached ({one_line(error)}): {again}, or {_lower(advice)}"


def _page(advice: str) -> str:
    return next(word for word in advice.split() if word.startswith("https://"))


def _lower(advice: str) -> str:
    return f"get it from {advice}" if advice.startswith("https://") else advice
