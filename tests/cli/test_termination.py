"""Signals to end, while a command runs and at no other time."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from quantface_core.cli.termination import interrupted_by_termination

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def _end(name: str = "SIGTERM") -> None:
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_first_interrupts_and_a_second_does_not_stop_the_tidying_up(name: str) -> None:
    number, tidied = getattr(signal, name), False
    before = signal.signal(number, signal.SIG_DFL)  # of a shell's background job: ignored

    def run() -> None:
        nonlocal tidied
        try:
            _end(name)
        finally:
            _end(name)
            tidied = True

    try:
        with pytest.raises(KeyboardInterrupt), interrupted_by_termination():
            run()
        assert tidied
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_what_a_host_has_set_stays() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with interrupted_by_termination():
            _end()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_another_thread_touches_no_signal() -> None:
    seen: list[object] = []

    def command() -> None:
        with interrupted_by_termination():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray leaves a handler of its own
    try:
        (thread := threading.Thread(target=command)).start()
        thread.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIG_DFL]


def test_ctrl_break_of_windows_ends_a_command_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with interrupted_by_termination():
        end = signal.getsignal(signal.SIGUSR1)
    assert callable(end)
    with pytest.raises(KeyboardInterrupt):
        end(signal.SIGUSR1, None)
