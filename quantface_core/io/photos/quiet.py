"""What decoders warn of, such as sizes and damage that are checked here, is kept from the user."""

from __future__ import annotations

import warnings
from threading import Lock


class _Quiet:
    """Silences warnings.

    Their filters are global to the process: the first thread to enter changes them, the last to leave restores them.
    By itself `catch_warnings` leaves them changed for good where threads enter and leave it in turn.
    """

    def __init__(self) -> None:
        self._lock, self._within, self._filters = Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._filters.__exit__(None, None, None)


quiet = _Quiet()
"""Context manager: within it nothing warns."""
