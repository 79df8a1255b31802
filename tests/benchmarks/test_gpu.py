"""What measures on a GPU starts without one, and measures a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu
import gpu_parts
import gpu_rows
import pytest
import torch

from quantface_core.nn.graphs import Graphs
from quantface_core.restorer import OneStepRestorer
from tests.nn.recorder import Again


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
    rows = list(gpu_rows.measure(restorer, ("tiny", "bf16"), 2, meter, 3))
    assert [(row.mode, row.faces, row.graphs) for row in rows] == [("eager", 2, False), ("captured", 2, True)]
    assert [(row.wall, row.busy, row.kernels, row.peak, row.rest) for row in rows] == [(500, 250, 500, 2, 1)] * 2
    assert [(row.difference, row.failure) for row in rows] == [(0, "")] * 2
    assert meter.calls == 6
    assert restorer.graphs is made
    assert list(gpu_rows.measure(restorer, ("tiny", "bf16"), 1, meter, 1))[1].wall == 1000


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
        rows = list(gpu_rows.measure(restorer, ("tiny", "bf16"), 1, Counting(), 1))
    assert [row.graphs for row in rows] == [False, False]
    assert gpu.as_table(rows, {}).splitlines()[-1] == "tiny bf16: embedder: operation not permitted"


PROCESS = """
import json, os, sys
part = sys.argv[2]
print("a library prints this")
if part == "kernels":
    print(json.dumps({"kernels": {f"{sys.argv[3]} {sys.argv[4]}, triton": "0 of 40 checks failed"}}), flush=True)
    os.abort()
print(json.dumps({"distances": {"fastest to reference (dB)": 51.234}} if part == "distances" else ROW))
"""


def test_what_is_measured_before_a_failure_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A GPU may be lent for half an hour: a crash must not cost what was found before, nor what comes after."""
    script, out = tmp_path / "process.py", tmp_path / "out"
    row = {"rows": [asdict(gpu_rows.Row("osdface", "bf16", "eager", 1, 60, 10, 1400, 2000, 600, False))]}
    script.write_text(PROCESS.replace("ROW", json.dumps(row).replace("false", "False")))
    monkeypatch.setattr(gpu, "refusal", lambda: None)
    monkeypatch.setattr(gpu, "__file__", str(script))
    parts = ["kernels", "faces", "distances"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--parts", *parts, "--bits", "bf16", "w4a4", "--out", str(out)])
    assert gpu.main() == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "failed: kernels osdface w4a4"
    assert "quantface-mini-w4a4, fastest to reference (dB): 51.23" in shown
    assert "osdface w4a4, triton: 0 of 40 checks failed" in shown
    assert (out / "gpu.txt").read_text().splitlines() == shown
    assert json.loads((out / "gpu.json").read_text())["rows"] == row["rows"] * 2


def test_rows_come_as_they_are_measured(restorer: OneStepRestorer) -> None:
    """Capturing may crash the process: the eager row was measured all the same."""
    graphs, rows = restorer.graphs, gpu_rows.measure(restorer, ("tiny", "bf16"), 1, Counting(), 1)
    assert next(rows).mode == "eager"
    rows.close()
    assert restorer.graphs is graphs


def test_single_parts_can_be_measured() -> None:
    asked = SimpleNamespace(parts=["kernels", "training"], models=["osdface"], bits=["bf16", "w4a4", "w6a6"])
    assert [process[0] for process in gpu.processes(asked)] == ["kernels", "kernels", "training"]


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
    assert gpu_parts.psnr(x, x) == float("inf")
    assert gpu_parts.psnr(x, x + 0.02) == pytest.approx(40, abs=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--models", "quantface-mini", "--bits", "w4a4", "--faces", "1"])
    assert gpu.main() == 2
    assert capsys.readouterr().err.startswith("gpu.py needs an NVIDIA GPU")
