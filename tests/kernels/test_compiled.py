"""Our kernels as Triton compiles them for GPUs that are not at hand: `benchmarks/gpu_compiled.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", "3.3", reason="needs triton, which compiles for any GPU")
from triton.backends import nvidia

ROOT = Path(__file__).parents[2]
_ALL, _PASSES = ("linear", "conv2d", "tokens", "balanced", "normalized"), ("tokens", "balanced")
_SOME = ("linear 128x128", "conv2d 128x128", "tokens normed", "balanced")
# Dtype, capabilities and kernels; the script does more. On capability 8.9 registers and loops are those of 8.6.
_PLAN = [("bf16", (80, 86, 90, 120), _ALL), ("bf16", (89,), _SOME), ("fp32", (86,), _PASSES)]
_SHARED = 99 << 10  # bytes of a program, on capabilities 8.6, 8.9 and 12.0
_STACK = 16  # bytes of a thread, outside of loops
_EACH = {"linear 128x128": 3, "conv2d 128x128": 4}  # instructions for one of the tensor cores'
_RUNS = """
import json, sys
sys.path[:0] = [".", "benchmarks"]
import gpu_compiled
for options in json.loads(sys.argv[1]):
    gpu_compiled.main(options)
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not (Path(nvidia.__file__).parent / "bin" / "nvdisasm").is_file():
        pytest.skip("this triton brings no disassembler")
    folder, runs = tmp_path_factory.mktemp("compiled"), []
    for i, (dtype, capabilities, kernels) in enumerate(_PLAN):
        options = ["--dtypes", dtype, "--capabilities", *map(str, capabilities), "--kernels", *kernels]
        runs.append([*options, "--loops", *_EACH, "--json", str(folder / f"{i}.json")])
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", _RUNS, json.dumps(runs)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [row for file in folder.iterdir() for row in json.loads(file.read_text())]


def test_no_kernel_spills_registers_or_exceeds_shared_memory(rows: list[dict[str, Any]]) -> None:
    """A loop that does takes several times as long: with one product a step Triton 3.8 and 3.9 make such."""
    assert {(row["dtype"], row["capability"]) for row in rows} == {(dtype, c) for dtype, some, _ in _PLAN for c in some}
    assert [row for row in rows if row["spills"] or row["stack"] > _STACK or row["shared"] > _SHARED] == []


def test_large_tiles_keep_tensor_cores_busy(rows: list[dict[str, Any]]) -> None:
    bf16 = [row for row in rows if row["dtype"] == "bf16"]
    large = [row for row in bf16 if row["kernel"] in _EACH and row["capability"] != 90]  # whose one is four others'
    assert len(large) == 8
    assert [row for row in large if row["loop"] > _EACH[row["kernel"]] * row["products"]] == []
