"""Threads spin for a moment only, or not at all, in the command and wherever torch is loaded after us."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest

from quantface_core.runtime.threads import opencv_side_by_side, opencv_threads, spin_briefly, wait_passively

_NAMES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in _NAMES})


@pytest.mark.usefixtures("clean")
def test_nobody_chose() -> None:
    spin_briefly()
    assert {n: os.environ.get(n) for n in _NAMES} == {
        "OMP_WAIT_POLICY": None, "KMP_BLOCKTIME": "1", "GOMP_SPINCOUNT": "2000"
    }  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.usefixtures("clean")
def test_what_somebody_chose_stays(name: str) -> None:
    os.environ[name] = "100"
    spin_briefly()
    assert {n: os.environ.get(n) for n in _NAMES} == {n: "100" if n == name else None for n in _NAMES}


@pytest.mark.usefixtures("clean")
def test_passive_waits_replace_short_ones() -> None:
    spin_briefly()
    wait_passively()
    assert os.environ["GOMP_SPINCOUNT"] == "0"


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.usefixtures("clean")
def test_passive_waits_leave_what_somebody_chose(name: str) -> None:
    os.environ[name] = "100"
    spin_briefly()
    wait_passively()
    assert {n: os.environ.get(n) for n in _NAMES} == {n: "100" if n == name else None for n in _NAMES}


def test_opencv_computes_by_fewer_threads_for_as_long() -> None:
    usual = cv2.getNumThreads()
    with opencv_threads(1):
        assert cv2.getNumThreads() == 1
    with opencv_threads(usual + 1):
        assert cv2.getNumThreads() == usual
    assert cv2.getNumThreads() == usual


@pytest.mark.parametrize(("photos", "spins"), [(["a.png"], "2000"), (["a.png", "b.png"], "0")])
def test_the_command_has_it_before_torch_loads(photos: list[str], spins: str) -> None:
    """GNU's OpenMP shows what it read when it loads."""
    code = f"from quantface_core.cli.main import main\nassert main(['restore', '--strength', '2', *{photos}]) == 2"
    environment = {k: v for k, v in os.environ.items() if k not in _NAMES} | {"OMP_DISPLAY_ENV": "VERBOSE"}
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    if "GOMP_SPINCOUNT" not in run.stderr:
        pytest.skip("torch's OpenMP here does not show its settings")
    assert f"GOMP_SPINCOUNT = '{spins}'" in run.stderr


def test_items_are_computed_at_once_each_by_one_thread_and_come_in_order() -> None:
    usual, both_here = cv2.getNumThreads(), threading.Barrier(2)

    def work(item: int) -> tuple[int, int]:
        both_here.wait(10)  # broken, with an error, unless two items are worked on at once
        return item, cv2.getNumThreads()

    try:
        cv2.setNumThreads(2)
        assert list(opencv_side_by_side(work, range(6))) == [(item, 1) for item in range(6)]
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(usual)


def test_an_item_that_fails_ends_it() -> None:
    usual = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError):
        list(opencv_side_by_side(lambda item: 1 // item, [1, 0, 1]))
    assert cv2.getNumThreads() == usual
