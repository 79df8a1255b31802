"""How far a command has come, where standard error is no terminal."""

from __future__ import annotations

import time

import pytest

from quantface_core.cli.progress import ProgressBars
from quantface_core.pipelines.callbacks import StageProgress


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, whose log would say nothing for hours."""
    seconds = iter(range(0, 1000, 25))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    with ProgressBars() as callbacks:
        for done in range(8):  # 175 seconds
            callbacks.progress(StageProgress("restore", done, 40, "photo", f"{done}.jpg" if done == 6 else ""))
        for done in range(2):  # 25 seconds
            callbacks.progress(StageProgress("fetch", done, 2, "byte"))
    assert capsys.readouterr().err.splitlines() == ["restore: 8% of 40 photos", "restore: 15% of 40 photos, 6.jpg"]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressBars() as callbacks:
        callbacks.progress(StageProgress("restore", 1, 2, "photo"))
        callbacks.progress(StageProgress("restore", 2, 2, "photo"))
    assert "2/2" in capsys.readouterr().err


def test_what_a_resumed_run_found_done_is_not_in_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bars = ProgressBars()
    with bars as callbacks:
        callbacks.progress(StageProgress("distill", 300, 400, "step"))
        assert (bars._bar.n, bars._bar.initial) == (300, 300)
        callbacks.progress(StageProgress("distill", 301, 400, "step"))
        assert bars._bar.n == 301
