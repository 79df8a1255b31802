"""What measures on a GPU starts without one, and measures a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu
import gpu_rows
import pytest
import torch

from quantface_core.nn.graphs import Graphs
from quantface_core.restorer import OneStepRestorer
from tests.nn.recorder import Again

ROOT = Path(__file__).parents[2]


class Counting:
    """A meter of a device that takes a second a call."""

    def __init__(self) -> None:
        self.calls = 0

    def seconds(self, work: Callable[[], object]) -> float:
        work()
        self.calls += 1
        return 1.0

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        work()
        return 0.5, 1000

    def memory(self, work: Callable[[], object]) -> tuple[float, float]:
        work()
        return 2e6, 1e6


@pytest.fixture
def restorer(tiny: OneStepRestorer) -> Iterator[OneStepRestorer]:
    kept, recorder = tiny.graphs, Again()
    tiny.graphs = Graphs(lambda _: recorder)
    yield tiny
    tiny.graphs = kept


def test_both_modes_are_measured(restorer: OneStepRestorer) -> None:
    meter, made = Counting(), restorer.graphs
    rows = gpu_rows.measure(restorer, ("tiny", "bf16"), 2, meter, 3)
    assert [(row.mode, row.faces, row.graphs) for row in rows] == [("eager", 2, False), ("captured", 2, True)]
    assert [(row.wall, row.busy, row.kernels, row.peak, row.rest) for row in rows] == [(500, 250, 500, 2, 1)] * 2
    assert [(row.difference, row.failure) for row in rows] == [(0, "")] * 2
    assert meter.calls == 6
    assert restorer.graphs is made
    assert gpu_rows.measure(restorer, ("tiny", "bf16"), 1, meter, 1)[1].wall == 1000


def test_eager_faces_leave_no_graphs_and_captured_images_are_compared(
    restorer: OneStepRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that returns the same image for every face is fast, and wrong."""
    capture, held = Again.capture, []

    def stale(recorder: Again, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        return capture(recorder, work)[0], lambda: None

    class Watching(Counting):
        def memory(self, work: Callable[[], object]) -> tuple[float, float]:
            held.append(made.held)
            return super().memory(work)

    monkeypatch.setattr(Again, "capture", stale)
    made = restorer.graphs
    rows = [row for faces in (1, 2) for row in gpu_rows.measure(restorer, ("tiny", "bf16"), faces, Watching(), 1)]
    assert held == [False, True] * 2
    assert [row.difference > 0.01 for row in rows] == [False, True] * 2


def test_why_capturing_failed_is_kept(restorer: OneStepRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(Again, "capture", fail)
    monkeypatch.setattr(Graphs, "failure", "")
    with pytest.warns(UserWarning, match="graphs are off"):
        rows = gpu_rows.measure(restorer, ("tiny", "bf16"), 1, Counting(), 1)
    assert [row.graphs for row in rows] == [False, False]
    assert gpu.as_table(rows, {}).splitlines()[-1] == "tiny bf16: embedder: operation not permitted"


def test_single_parts_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(gpu, "refusal", lambda: None)
    monkeypatch.setattr(gpu, "distances", lambda _: {"fastest to reference (dB)": 51.234})
    monkeypatch.setattr(gpu, "step_time", lambda _: pytest.fail("not asked for"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--parts", "distances", "--out", str(tmp_path)])
    assert gpu.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "quantface-mini-w4a4, fastest to reference (dB): 51.23"
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == []


def test_the_table_compares_with_captured_bfloat16() -> None:
    rows = [
        gpu_rows.Row("osdface", bits, mode, 1, wall, 10, 1400, 2000, 600, graphs, 0.002)
        for bits, mode, wall, graphs in (
            ("bf16", "eager", 60, False), ("bf16", "captured", 20, True), ("w4a4", "eager", 57, False),
            ("w4a4", "captured", 12.5, True), ("w6a6", "captured", 40, False),
        )
    ]  # fmt: skip
    lines = gpu.as_table(rows, {"osdface w4a4": 41.26}).splitlines()
    assert "| 1.60 | 2000 | 600 | 0.002 | 41.3 |" in lines[5]
    assert "| 0.33 |" in lines[2]
    assert "captured (gave up)" in lines[6]


def test_decibels() -> None:
    x = torch.rand(1, 3, 4, 4)
    assert gpu.psnr(x, x) == float("inf")
    assert gpu.psnr(x, x + 0.02) == pytest.approx(40, abs=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("more", [[], ["--models", "quantface-mini", "--bits", "w4a4", "--faces", "1"]])
def test_without_a_gpu_it_says_so(more: list[str]) -> None:
    command = [sys.executable, "benchmarks/gpu.py", *more]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("gpu.py needs an NVIDIA GPU")
