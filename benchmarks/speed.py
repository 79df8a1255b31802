"""Seconds per face, sizes and memory of full-precision and low-bit restorers on this machine.

    python benchmarks/speed.py [--models quantface-mini osdface] [--bits w4a4 w6a6] [--rank 32 --branch-bits 8]
        [--rounds 3] [--device cuda] [--faces 4]

Weights are random (`random_models.py`), as OSDFace's were not available; low-bit restorers compute between layers in
bfloat16 where the device has it. Every row is measured in its own process that loads a file; times are medians after a
warm-up, and over several such processes, in rounds: on a shared machine one process may be a tenth faster than the
next. MB are 10^6 bytes; with `--device cuda` memory is the GPU's. QUANTFACE_BACKEND selects a backend instead of the
fastest. ONEDNN_MAX_CPU_ISA does not make a CPU with matrix units (AMX) behave like one without: Intel's bfloat16 is
then slower than its float32.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from random_models import CONFIGS, FLOATS, add_branch_options, make
from report import describe_machine, table
from timing import median

from quantface_core import OneStepRestorer, load_restorer
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.nn.swap import prepare
from quantface_core.runtime.memory import kept_memory


def memory(device: torch.device, line: str = "VmRSS") -> float:
    """This process's memory on a device, MB (10^6 bytes); VmHWM = its peak."""
    if device.type == "cpu":
        return resident(line)
    return (torch.cuda.memory_allocated() if line == "VmRSS" else torch.cuda.max_memory_allocated()) / 1e6


def resident(line: str = "VmRSS") -> float:
    """This process's resident memory, MB; VmHWM = its peak (getrusage's includes the parent's before the fork)."""
    kibibytes = re.findall(rf"{line}:\s+(\d+)", Path("/proc/self/status").read_text())[0]
    return int(kibibytes) * 1024 / 1e6


def measure(bits: str, path: Path, runs: int, device: torch.device, faces: int) -> dict[str, float]:
    """Load a file and restore some faces at once, in this process: seconds per face, MB."""
    backend, empty = choose_backend(device), memory(device)
    start = time.perf_counter()
    restorer = load_restorer(path, device, FLOATS.get(bits))
    assert isinstance(restorer, OneStepRestorer)
    prepare(restorer, backend)
    loaded, rest = time.perf_counter() - start, memory(device) - empty
    size = restorer.config.image_size
    face = torch.rand(faces, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    with torch.inference_mode(), kept_memory():
        latent, prompt = restorer.encode(face), restorer.embedder(face.to(restorer.dtype))
        unet = median(lambda: restorer.predict(latent, prompt), runs) / faces
        whole = median(lambda: restorer(face), runs) / faces
    peak = memory(device, "VmHWM")
    return {"unet": unet, "whole": whole, "load": loaded, "rest": rest, "peak": peak}


def measured(name: str, precisions: list[str], asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of every precision's measures over the rounds; in each, every row has its own process."""
    passed = ["--runs", str(asked.runs), "--device", asked.device, "--faces", str(asked.faces)]
    found: dict[str, list[dict[str, float]]] = {bits: [] for bits in precisions}
    with tempfile.TemporaryDirectory() as folder:
        paths = {bits: Path(folder) / f"{bits}.safetensors" for bits in precisions}
        for bits, path in paths.items():
            make(CONFIGS[name], bits, path, asked.device, asked.rank, asked.branch_bits)
        for bits, path in [*paths.items()] * asked.rounds:
            command = [sys.executable, __file__, "--one", bits, str(path), *passed]
            shown = subprocess.run(command, capture_output=True, text=True, check=True)
            found[bits].append({**json.loads(shown.stdout.splitlines()[-1]), "file": path.stat().st_size / 1e6})
            print(
                f"{name} {bits}: UNet {found[bits][-1]['unet']:.3f} s, whole {found[bits][-1]['whole']:.3f} s",
                file=sys.stderr,
            )
    return {bits: {key: statistics.median(r[key] for r in rows) for key in rows[0]} for bits, rows in found.items()}


def cells(bits: str, found: dict[str, dict[str, float]]) -> list[str | float]:
    """A row of the table."""
    row, line, above = found[bits], list[str | float]([bits]), list(found)[: list(found).index(bits) + 1]
    for part in ("unet", "whole"):
        ratios = [found[peer][part] / row[part] for peer in FLOATS if peer in above]
        line += [row[part], *ratios, *[""] * (2 - len(ratios))]
    share = row["file"] / found["fp32"]["file"]
    return [*line, row["load"], f"{row['file']:.0f}", f"{share:.1%}", f"{row['rest']:.0f}", f"{row['peak']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w6a6", "w4a6", "w4a4"])
    add_branch_options(parser)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="processes per row; one process may be lucky throughout")
    parser.add_argument("--faces", type=int, default=1, help="restored at once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a row's process: bits, file
    arguments = parser.parse_args()
    if arguments.one:
        bits, path = arguments.one
        print(json.dumps(measure(bits, Path(path), arguments.runs, torch.device(arguments.device), arguments.faces)))
        return
    print(f"{describe_machine()}; random weights")
    digits = 2 if arguments.device == "cpu" else 3
    header = ["UNet (s)", "x fp32", "x bf16", "whole (s)", "x fp32", "x bf16"]
    header += ["load (s)", "file (MB)", "of fp32", "at rest (MB)", "peak (MB)"]
    for name in arguments.models:
        found = measured(name, [*FLOATS, *arguments.bits], arguments)
        print(f"\n{table([name, *header], [cells(bits, found) for bits in found], digits)}", flush=True)


if __name__ == "__main__":
    main()
