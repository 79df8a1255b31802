"""Measure faces on a GPU: time, launches, memory and distance at every precision, eager and with CUDA graphs.

    python benchmarks/gpu.py [--models osdface] [--bits bf16 w4a4 w4a6 w6a6] [--faces 1 4] [--out FOLDER]

Needs an NVIDIA GPU (8 GB at OSDFace's size). Compiling takes most of the time of a first run; where a command may take
10 minutes at most, run one part at a time, each with a folder of its own:

    python benchmarks/gpu.py --parts faces --bits bf16 w4a4 --faces 1 --runs 5 --out 4bit
    python benchmarks/gpu.py --parts faces --bits w4a6 w6a6 --out 6bit
    python benchmarks/gpu.py --parts distances training --out rest

Weights are random as in `speed.py`, except for the distances and the training, which are the bundled models'. Every
precision runs in its own process: wall milliseconds per face are the median after a warm-up; busy is the time that the
device works, and kernels how many it starts, both by torch's profiler; peak memory is torch's, and at rest what stays
reserved between faces, weights and graphs, once torch's cache is emptied. `eager` launches every kernel from the CPU;
`captured` replays four graphs, one face at a time, and its images of different faces are compared with eager ones. PSNR
to `reference` compares the images that this backend and the reference one compute from the same file. Results are
written to FOLDER/gpu.json as they are measured; the table is printed last.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_rows import CudaMeter, Row, measure
from random_models import CONFIGS, make
from report import describe_machine, table

from quantface_core import OneStepRestorer, load_restorer, restorer_path
from quantface_core.bundled import bundled_faces
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.nn.swap import prepare
from quantface_core.runtime.memory import is_out_of_memory
from quantface_core.stages.distill import distill
from quantface_core.types import RestorerDistillConfig, TrainerConfig

PARTS = ("faces", "distances", "training")


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
    """Measure one precision, in its own process: its model is the only one on the device."""
    model, bits = asked.one
    device, rows = torch.device("cuda"), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        make(CONFIGS[model], bits, path, "cuda")
        torch.cuda.empty_cache()
        restorer = load_restorer(path, device, torch.bfloat16 if bits == "bf16" else None)
        assert isinstance(restorer, OneStepRestorer)
        for faces in asked.faces:
            try:
                rows += measure(restorer, (model, bits), faces, CudaMeter(), asked.runs)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                print(f"{model} {bits}, {faces} faces: out of memory", file=sys.stderr)
        del restorer
        torch.cuda.empty_cache()
        found: dict[str, Any] = {"rows": [asdict(row) for row in rows]}
        if bits != "bf16":
            found["psnr"] = against_reference(path, device)
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
    if found["rows"]:
        lines.append(as_table([Row(**row) for row in found["rows"]], found["psnr"]))
    lines += [f"quantface-mini-w4a4, {name}: {value:.2f}" for name, value in found.get("distances", {}).items()]
    if "seconds a step of distilling quantface-mini" in found:
        lines.append(f"a step of distilling it: {found['seconds a step of distilling quantface-mini']:.3f} s")
    return "\n".join(lines)


def refusal() -> str | None:
    """Why this machine cannot be measured; None if it can."""
    if not torch.cuda.is_available():
        return f"gpu.py needs an NVIDIA GPU, and this torch ({torch.__version__}) sees none"
    return None if torch.version.cuda else "gpu.py measures NVIDIA GPUs, and this torch is built for others"


def measure_faces(asked: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> None:
    """Add the rows of every model and precision; one that fails is reported and left out."""
    passed = ["--faces", *map(str, asked.faces), "--runs", str(asked.runs)]
    for model in asked.models:
        for bits in asked.bits:
            command = [sys.executable, __file__, "--one", model, bits, *passed]
            shown = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if shown.returncode:
                print(f"{model} {bits}: failed, see above", file=sys.stderr)
                continue
            result = json.loads(shown.stdout.splitlines()[-1])
            found["rows"] += result["rows"]
            if "psnr" in result:
                found["psnr"][f"{model} {bits}"] = result["psnr"]
            keep()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=["osdface", "quantface-mini"], default=["osdface"])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4", "w4a6", "w6a6"])
    parser.add_argument("--faces", nargs="+", type=int, default=[1, 4], help="restored at once")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a precision's process: model, bits
    arguments = parser.parse_args()
    if reason := refusal():
        print(reason, file=sys.stderr)
        return 2
    if arguments.one:
        print(json.dumps(one(arguments)))
        return 0
    found: dict[str, Any] = {"machine": describe_machine(), "rows": [], "psnr": {}}

    def keep() -> None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "gpu.json").write_text(json.dumps(found, indent=1))

    device = torch.device("cuda")
    if "faces" in arguments.parts:
        measure_faces(arguments, found, keep)
    if "distances" in arguments.parts:
        found["distances"] = distances(device)
        keep()
    if "training" in arguments.parts:
        found["seconds a step of distilling quantface-mini"] = step_time(device)
        keep()
    print(as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
