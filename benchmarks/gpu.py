"""Measure faces on a GPU: time, launches, memory and distance at every precision, eager and with CUDA graphs.

    python benchmarks/gpu.py [--models osdface] [--bits bf16 w4a4 w4a6 w6a6] [--faces 1 4] [--out FOLDER]

Needs an NVIDIA GPU (8 GB at OSDFace's size). Compiling takes most of the time of a first run; where a command may take
10 minutes at most, run one part at a time, each with a folder of its own, what tells most first:

    python benchmarks/gpu.py --parts kernels --models quantface-mini --bits w4a4 --out smoke
    python benchmarks/gpu.py --parts faces --bits bf16 w4a4 --faces 1 --runs 5 --out 4bit
    python benchmarks/gpu.py --parts kernels distances training --bits w4a4 --out kernels
    python benchmarks/gpu.py --parts faces --bits w4a6 w6a6 --out 6bit

`kernels` compares each kind of low-bit layer with the same steps one by one (`gpu_layers.py`), and says why a backend
cannot run; where images are wrong, it names the layer. Weights are random as in `speed.py`, except for the distances
and the training, which are the bundled models'. Every part and precision runs in its own process: wall milliseconds per
face are the median after a warm-up; busy is the time that the device works, and kernels how many it starts, both by
torch's profiler; peak memory is torch's, and at rest what stays reserved between faces, weights and graphs, once
torch's cache is emptied. `eager` launches every kernel from the CPU; `captured` replays four graphs, one face at a
time, and its images of different faces are compared with eager ones. PSNR to `reference` compares the images that this
backend and the reference one compute from the same file.

What is measured is written to FOLDER/gpu.json and FOLDER/gpu.txt at once, so a run that is stopped or fails keeps it;
what failed is named at the end, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gpu_parts
from gpu_rows import Row
from report import describe_machine, table

PARTS = ("kernels", "faces", "distances", "training")
STEP = "seconds a step of distilling quantface-mini"


def one(asked: argparse.Namespace) -> gpu_parts.Results:
    """What a part's own process measures, as it is measured."""
    part, model, bits = asked.one
    device = torch.device("cuda")
    if part == "kernels":
        yield from gpu_parts.kernels(model, bits, device)
    elif part == "faces":
        yield from gpu_parts.faces(model, bits, device, asked.faces, asked.runs)
    elif part == "distances":
        yield {"distances": gpu_parts.distances(device)}
    else:
        yield {STEP: gpu_parts.step_time(device)}


def as_table(rows: list[Row], distance: dict[str, float]) -> str:
    """All rows, relative to captured bf16 of the same model and faces."""
    rivals = {(row.model, row.faces): row.wall for row in rows if (row.bits, row.mode) == ("bf16", "captured")}
    lines: list[list[str | float]] = []
    for row in rows:
        rival = rivals.get((row.model, row.faces))
        mode = row.mode if row.mode == "eager" or row.graphs else "captured (gave up)"
        ratio = f"{rival / row.wall:.2f}" if rival else ""
        near = distance.get(f"{row.model} {row.bits}")
        lines.append(
            [row.model, row.bits, mode, str(row.faces), row.wall, row.busy, f"{row.kernels:.0f}", ratio,
             f"{row.peak:.0f}", f"{row.rest:.0f}", f"{row.difference:.1g}" if row.graphs else "",
             "" if near is None else f"{near:.1f}"]
        )  # fmt: skip
    header = ["model", "bits", "mode", "faces", "wall (ms a face)", "busy (ms)", "kernels", "x captured bf16",
              "peak (MB)", "at rest (MB)", "captured to eager (at most, of 2)", "PSNR to reference (dB)"]  # fmt: skip
    failures = dict.fromkeys(f"{row.model} {row.bits}: {row.failure}" for row in rows if row.failure)
    return "\n".join([table(header, lines, 1), *failures])


def as_text(found: dict[str, Any]) -> str:
    """Everything in gpu.json: the table and a line for each other number."""
    lines = [f"{found['machine']}; random weights", ""]
    lines += [f"{name}: {result}" for name, result in found.get("kernels", {}).items()]
    if found["rows"]:
        lines.append(as_table([Row(**row) for row in found["rows"]], found["psnr"]))
    lines += [f"quantface-mini-w4a4, {name}: {value:.2f}" for name, value in found.get("distances", {}).items()]
    if STEP in found:
        lines.append(f"a step of distilling it: {found[STEP]:.3f} s")
    return "\n".join([*lines, *(f"failed: {part}" for part in found["failed"])])


def refusal() -> str | None:
    """Why this machine cannot be measured; None if it can."""
    if not torch.cuda.is_available():
        return f"gpu.py needs an NVIDIA GPU, and this torch ({torch.__version__}) sees none"
    return None if torch.version.cuda else "gpu.py measures NVIDIA GPUs, and this torch is built for others"


def _triton() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return "not installed under this name"


def processes(asked: argparse.Namespace) -> list[list[str]]:
    """(part, model, precision) of every process to start, in order."""
    each = [[model, bits] for model in asked.models for bits in asked.bits]
    made = {"kernels": [["kernels", *pair] for pair in each if pair[1] != "bf16"],
            "faces": [["faces", *pair] for pair in each]}  # fmt: skip
    return [process for part in asked.parts for process in made.get(part, [[part, "quantface-mini", "w4a4"]])]


def collect(command: list[str], found: dict[str, Any], keep: Callable[[], None]) -> bool:
    """Add a process's results to `found` as it prints them; return whether it ended well."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if not line.startswith("{"):
                continue
            for name, result in json.loads(line).items():
                if isinstance(result, dict):
                    found.setdefault(name, {}).update(result)
                elif isinstance(result, list):
                    found[name] += result
                else:
                    found[name] = result
            keep()
    return process.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=["osdface", "quantface-mini"], default=["osdface"])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4", "w4a6", "w6a6"])
    parser.add_argument("--faces", nargs="+", type=int, default=[1, 4], help="restored at once")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a process's part, model, precision
    arguments = parser.parse_args()
    if reason := refusal():
        print(reason, file=sys.stderr)
        return 2
    if arguments.one:
        for result in one(arguments):
            print(json.dumps(result), flush=True)
        return 0
    machine = f"{describe_machine()}, triton {_triton()}"
    found: dict[str, Any] = {"machine": machine, "rows": [], "psnr": {}, "failed": []}

    def keep() -> None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "gpu.json").write_text(json.dumps(found, indent=1))
        (arguments.out / "gpu.txt").write_text(as_text(found) + "\n")

    passed = ["--faces", *map(str, arguments.faces), "--runs", str(arguments.runs)]
    for process in processes(arguments):
        if not collect([sys.executable, __file__, "--one", *process, *passed], found, keep):
            found["failed"].append(" ".join(process))
            keep()
    print(as_text(found))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
