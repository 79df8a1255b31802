"""Measure faces on a GPU: time, launches, memory and distance at every precision, eager and with CUDA graphs.

    python benchmarks/gpu.py [--models osdface] [--bits bf16 w4a4 w4a6 w6a6] [--faces 1 4] [--out FOLDER]

Needs an NVIDIA GPU (8 GB at OSDFace's size) and a few minutes. Weights are random as in `speed.py`, except for the
distances, which are the bundled models'. Every precision runs in its own process: wall milliseconds per face are the
median after a warm-up; busy is the time that the device works, and kernels how many it starts, both by torch's
profiler; peak memory is torch's, and at rest what stays allocated between faces, graphs included. `eager` launches
every kernel from the CPU; `captured` replays four graphs, one face at a time. PSNR to `reference` compares the images
that this backend and the reference one compute from the same file. Results are written to FOLDER/gpu.json as they are
measured; the table is printed last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import describe_machine, table

from quantface_core import OneStepRestorer, load_restorer, restorer_path
from quantface_core.bundled import bundled_faces
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.nn.graphs import Graphs
from quantface_core.nn.swap import prepare
from quantface_core.stages.distill import distill
from quantface_core.types import RestorerDistillConfig, TrainerConfig

MODES = ("eager", "captured")


@dataclass(frozen=True)
class Row:
    """One precision, mode and number of faces; times in milliseconds per face, memory in MB."""

    model: str
    bits: str
    mode: str
    faces: int
    wall: float
    busy: float
    kernels: float  # per face
    peak: float
    rest: float
    graphs: bool  # whether any were captured: else it ran eagerly after all


class Meter(Protocol):
    """What is measured on a device."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall seconds of one call."""

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        """Seconds that the device works in one call, and kernels that it starts."""

    def memory(self, work: Callable[[], object]) -> tuple[float, float]:
        """Bytes reserved at most during one call, and after it."""


class CudaMeter:
    def seconds(self, work: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as run:
            work()
            torch.cuda.synchronize()
        events = [event for event in run.events() if event.device_type.name == "CUDA"]
        return sum(event.device_time for event in events) / 1e6, len(events)

    def memory(self, work: Callable[[], object]) -> tuple[float, float]:
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        # Reserved, not allocated: some allocators leave graphs' memory out of what torch counts as allocated.
        return float(torch.cuda.max_memory_reserved()), float(torch.cuda.memory_reserved())


@torch.inference_mode()
def measure(restorer: OneStepRestorer, name: tuple[str, str], faces: int, meter: Meter, runs: int) -> list[Row]:
    """Rows of a restorer in both modes; captured, faces run one after the other."""
    size, rows = restorer.image_size, []
    pictures = torch.rand(faces, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures = pictures.to(restorer.device)
    made: Graphs = restorer.graphs
    for mode in MODES:
        restorer.graphs = made if mode == "captured" else Graphs(lambda _: None)

        def work(mode: str = mode) -> None:
            for batch in pictures.split(1 if mode == "captured" else faces):
                restorer(batch)

        for _ in range(3):  # kernels are compiled, graphs captured
            work()
        wall = statistics.median(meter.seconds(work) for _ in range(runs))
        (busy, kernels), (peak, rest) = meter.busy(work), meter.memory(work)
        rows.append(
            Row(*name, mode, faces, 1e3 * wall / faces, 1e3 * busy / faces, kernels / faces, peak / 1e6, rest / 1e6,
                bool(restorer.graphs._captured))
        )  # fmt: skip
    restorer.graphs = made
    return rows


def psnr(a: Tensor, b: Tensor) -> float:
    """Decibels between images in [-1, 1]; infinite for equal ones."""
    error = float((a.double() - b.double()).square().mean())
    return 10 * math.log10(4 / error) if error else math.inf


@torch.inference_mode()
def distances(device: torch.device, count: int = 4) -> dict[str, float]:
    """PSNR between the bundled low-bit model's images by the fastest backend and `reference`, and to float32's."""
    low = load_restorer(restorer_path("quantface-mini-w4a4"), device)
    full = load_restorer(restorer_path("quantface-mini"), device, torch.float32)
    faces = bundled_faces(count, low.config.image_size).to(device)
    exact, found = torch.cat([full(face[None]) for face in faces]), {}
    for name in (None, "reference"):
        prepare(low, choose_backend(device, name))
        found[name or "fastest"] = torch.cat([low(face[None]) for face in faces])
    return {
        "fastest to reference (dB)": psnr(found["fastest"], found["reference"]),
        "fastest to full precision (dB)": psnr(found["fastest"], exact),
        "reference to full precision (dB)": psnr(found["reference"], exact),
    }


def step_time(device: torch.device, steps: int = 8) -> float:
    """Seconds of one step of distilling the bundled models, as the extra time of more steps."""
    seconds = []
    for count in (2, 2 + steps):
        low, full = (load_restorer(restorer_path(f"quantface-mini{end}"), device) for end in ("-w4a4", ""))
        faces = bundled_faces(5, low.config.image_size)
        fit = TrainerConfig(steps=count, batch_size=4, validate_every=count, save_every=count)
        start = time.perf_counter()
        distill(low, full.float(), faces[:4], faces[4:], RestorerDistillConfig(fit))
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / steps


def against_reference(path: Path, device: torch.device) -> float:
    """Decibels between a file's images by the fastest backend and by `reference`."""
    restorer = load_restorer(path, device)
    size = restorer.config.image_size
    face = (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    pictures = []
    with torch.inference_mode():
        for name in (None, "reference"):
            prepare(restorer, choose_backend(device, name))
            pictures.append(restorer(face))
    return psnr(*pictures)


def one(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure one precision, in its own process."""
    model, bits, path = asked.one
    device = torch.device("cuda")
    restorer = load_restorer(Path(path), device, torch.bfloat16 if bits == "bf16" else None)
    assert isinstance(restorer, OneStepRestorer)
    rows = [row for faces in asked.faces for row in measure(restorer, (model, bits), faces, CudaMeter(), asked.runs)]
    del restorer
    torch.cuda.empty_cache()
    found: dict[str, Any] = {"rows": [asdict(row) for row in rows]}
    if bits != "bf16":
        found["psnr"] = against_reference(Path(path), device)
    return found


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
             f"{row.peak:.0f}", f"{row.rest:.0f}", "" if near is None else f"{near:.1f}"]
        )  # fmt: skip
    header = ["model", "bits", "mode", "faces", "wall (ms a face)", "busy (ms)", "kernels", "x captured bf16",
              "peak (MB)", "at rest (MB)", "PSNR to reference (dB)"]  # fmt: skip
    return table(header, lines, 1)


def refusal() -> str | None:
    """Why this machine cannot be measured; None if it can."""
    if not torch.cuda.is_available():
        return f"gpu.py needs an NVIDIA GPU, and this torch ({torch.__version__}) sees none"
    return None if torch.version.cuda else "gpu.py measures NVIDIA GPUs, and this torch is built for others"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=["osdface", "quantface-mini"], default=["osdface"])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4", "w4a6", "w6a6"])
    parser.add_argument("--faces", nargs="+", type=int, default=[1, 4], help="restored at once")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--skip-training", action="store_true", help="do not time a step of distilling")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a precision's process: model, bits, file
    arguments = parser.parse_args()
    if reason := refusal():
        print(reason, file=sys.stderr)
        return 2
    if arguments.one:
        print(json.dumps(one(arguments)))
        return 0
    from random_models import CONFIGS, make

    found: dict[str, Any] = {"machine": describe_machine(), "rows": [], "psnr": {}}
    passed = ["--faces", *map(str, arguments.faces), "--runs", str(arguments.runs)]

    def keep() -> None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "gpu.json").write_text(json.dumps(found, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            for bits in arguments.bits:
                path = Path(folder) / "model.safetensors"
                make(CONFIGS[model], bits, path, "cuda")
                command = [sys.executable, __file__, "--one", model, bits, str(path), *passed]
                shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ)
                if shown.returncode:
                    print(f"{model} {bits}: failed, see above", file=sys.stderr)
                    continue
                result = json.loads(shown.stdout.splitlines()[-1])
                found["rows"] += result["rows"]
                if "psnr" in result:
                    found["psnr"][f"{model} {bits}"] = result["psnr"]
                keep()
    device = torch.device("cuda")
    found["distances"] = distances(device)
    keep()
    if not arguments.skip_training:
        found["seconds a step of distilling quantface-mini"] = step_time(device)
        keep()
    print(f"{found['machine']}; random weights\n")
    print(as_table([Row(**row) for row in found["rows"]], found["psnr"]))
    for name, value in found["distances"].items():
        print(f"quantface-mini-w4a4, {name}: {value:.2f}")
    if not arguments.skip_training:
        print(f"a step of distilling it: {found['seconds a step of distilling quantface-mini']:.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
