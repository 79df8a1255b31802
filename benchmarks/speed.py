"""Seconds, sizes and memory of full-precision and low-bit restorers on this machine, one face a time.

    python benchmarks/speed.py [--models quantface-mini osdface] [--bits w4a4 w6a6] [--runs 5] [--rounds 3]

Weights are random, OSDFace's own were not at hand: normal, as rotation makes them, or speed would hang on them (of
6-bit convolutions, by how many numbers `kernels/onednn/point.py` multiplies apart). Low-bit layers have
rotation (64), scales and a rank-16 branch, as `quantface calibrate` makes them, and compute in bfloat16
between layers. Every row is a process of its own that loads a file; times are medians after a warm-up, and of
several such processes, in rounds: on a shared machine one process may be a tenth faster than the next.
Set ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI to see a processor without matrix units (AMX).
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
from collections.abc import Callable
from pathlib import Path

import torch
from report import describe_machine, table

from quantface_core import OneStepRestorer, load_restorer, save_restorer
from quantface_core.kernels.allocator import kept_memory
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.kernels.quantize import per_channel_scale, quantize
from quantface_core.nn.swap import empty_like, prepare, quantizable, swap
from quantface_core.restorer import OSDFACE, QUANTFACE_MINI, RestorerConfig
from quantface_core.stages.quantize import plan_formats
from quantface_core.types import QuantizeSettings

CONFIGS = {"quantface-mini": QUANTFACE_MINI, "osdface": OSDFACE}
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make(config: RestorerConfig, bits: str, path: Path) -> None:
    """Write a restorer of random weights, full precision or low bits."""
    torch.manual_seed(0)
    restorer = OneStepRestorer(config).eval().requires_grad_(False)
    if bits not in FLOATS:
        weight_bits, activation_bits = map(int, re.findall(r"\d", bits))
        formats = plan_formats(restorer, QuantizeSettings(weight_bits, activation_bits))
        layers = quantizable(restorer)
        for layer_name, form in formats.items():
            layer = layers[layer_name]
            low = empty_like(layer, form)
            weight = layer.weight.normal_(0, float(layer.weight.std()))  # nearly as rotation makes any weight
            scale = per_channel_scale(weight, form.weight_bits)
            low.weight_scale = scale.flatten()
            low.packed = pack(quantize(weight, scale, form.weight_bits), form.weight_bits)
            if form.rank:
                low.down.normal_(0, 0.01)
                low.up.normal_(0, 0.01)
            swap(restorer, {layer_name: low})
    save_restorer(restorer, path, FLOATS.get(bits, torch.float16))


def resident(line: str = "VmRSS") -> float:
    """This process's resident memory, MB; VmHWM = its peak (getrusage's would be the parent's before the fork)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{line}:\s+(\d+)", status)[1]) / 1024


def median(work: Callable[[], object], runs: int) -> float:
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(bits: str, path: Path, runs: int) -> dict[str, float]:
    """Load a file and restore one face, in this process."""
    backend, empty = choose_backend(torch.device("cpu")), resident()
    start = time.perf_counter()
    restorer = load_restorer(path, dtype=FLOATS.get(bits, torch.bfloat16))
    prepare(restorer, backend)
    loaded, rest = time.perf_counter() - start, resident() - empty
    size = restorer.config.image_size
    face = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode(), kept_memory():
        latent, prompt = restorer.encode(face), restorer.embedder(face.to(restorer.dtype))
        unet = median(lambda: restorer.predict(latent, prompt), runs)
        whole = median(lambda: restorer(face), runs)
    peak = resident("VmHWM")
    return {"unet": unet, "whole": whole, "load": loaded, "rest": rest, "peak": peak}


def measured(name: str, precisions: list[str], rounds: int, runs: int) -> dict[str, dict[str, float]]:
    """Medians of every precision's measures over the rounds, in each of which every row is a process of its own."""
    found: dict[str, list[dict[str, float]]] = {bits: [] for bits in precisions}
    with tempfile.TemporaryDirectory() as folder:
        paths = {bits: Path(folder) / f"{bits}.safetensors" for bits in precisions}
        for bits, path in paths.items():
            make(CONFIGS[name], bits, path)
        for bits, path in [*paths.items()] * rounds:
            command = [sys.executable, __file__, "--one", bits, str(path), "--runs", str(runs)]
            shown = subprocess.run(command, capture_output=True, text=True, check=True)
            found[bits].append({**json.loads(shown.stdout.splitlines()[-1]), "file": path.stat().st_size / 1e6})
            print(
                f"{name} {bits}: UNet {found[bits][-1]['unet']:.2f} s, whole {found[bits][-1]['whole']:.2f} s",
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
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="processes a row; a process may be lucky throughout")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a row's process: bits, file
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], Path(arguments.one[1]), arguments.runs)))
        return
    print(f"{describe_machine()}; random weights")
    header = ["UNet (s)", "x fp32", "x bf16", "whole (s)", "x fp32", "x bf16"]
    header += ["load (s)", "file (MB)", "of fp32", "at rest (MB)", "peak (MB)"]
    for name in arguments.models:
        found = measured(name, [*FLOATS, *arguments.bits], arguments.rounds, arguments.runs)
        print(f"\n{table([name, *header], [cells(bits, found) for bits in found], digits=2)}", flush=True)


if __name__ == "__main__":
    main()
