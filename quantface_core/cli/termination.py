"""SIGTERM, SIGHUP and Windows' Ctrl-Break end a command as Ctrl-C does: finished work is kept, nothing is left
half-written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")  # of kill, timeout, systemd, Docker, Slurm; of a terminal that closes


@contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """Inside, the first of these signals raises KeyboardInterrupt in the main thread; later ones are ignored.

    Signals whose handler is not the default stay as they are, such as SIGHUP under nohup; so do all in other threads.
    """
    is_ending = False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:  # `timeout` signals its command twice: the second must not stop the tidying up
            is_ending = True
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handled = [number for number in known if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)
