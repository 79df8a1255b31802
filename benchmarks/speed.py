"""Seconds a face, sizes and memory of full-precision and low-bit restorers on this machine.

    python benchmarks/speed.py [--models quantface-mini osdface] [--bits w4a4 w6a6] [--rounds 3]
        [--device cuda] [--faces 4]

Weights are random, OSDFace's own were not at hand: normal, as rotation makes them, or speed would depend on them (of
6-bit convolutions, by how many numbers `kernels/onednn/point.py` multiplies apart). Low-bit layers have rotation (64),
scales and a rank-32 branch in 8 bits, as `quantface calibrate` makes them, and compute between layers in bfloat16
where the device has it. Every row is a process of its own that loads a file; times are medians after a warm-up, and of
several such processes, in rounds: on a shared machine one process may be a tenth faster than the next. With `--device
cuda` memory is the GPU's. QUANTFACE_BACKEND names another backend than the best. ONEDNN_MAX_CPU_ISA does not make a
processor with matrix units (AMX) like one without: Intel's bfloat16 is slower than its float32 then.
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
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.kernels.quantize import per_channel_scale, quantize
from quantface_core.nn.swap import empty_like, prepare, quantizable, swap
from quantface_core.restorer import OSDFACE, QUANTFACE_MINI, RestorerConfig, RestorerModel
from quantface_core.restorer.fold_rules import fold_balances
from quantface_core.runtime.memory import kept_memory
from quantface_core.stages.quantize import restorer_formats
from quantface_core.types import Bits, QuantizeSettings

CONFIGS = {"quantface-mini": QUANTFACE_MINI, "osdface": OSDFACE}
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make(config: RestorerConfig, bits: str, path: Path, device: str = "cpu") -> None:
    """Write a restorer of random weights, full precision or low bits; a GPU is quicker at it."""
    torch.manual_seed(0)
    with torch.device(device):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
    if bits not in FLOATS:
        low_bit_layers(restorer, bits)
        fold_balances(restorer.cpu())
    save_restorer(restorer.cpu(), path, FLOATS.get(bits, torch.float16))


def low_bit_layers(restorer: RestorerModel, bits: str) -> None:
    """Put low-bit layers of random integers in the places of all that are quantized."""
    formats = restorer_formats(restorer, QuantizeSettings(*Bits.parse(bits)))
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


def memory(device: torch.device, line: str = "VmRSS") -> float:
    """What this process holds of a device, MB; VmHWM = its peak."""
    if device.type == "cpu":
        return resident(line)
    return (torch.cuda.memory_allocated() if line == "VmRSS" else torch.cuda.max_memory_allocated()) / 1e6


def resident(line: str = "VmRSS") -> float:
    """This process's resident memory, MB; VmHWM = its peak (getrusage's would be the parent's before the fork)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{line}:\s+(\d+)", status)[1]) / 1024


def median(work: Callable[[], object], runs: int) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else bool
    work()
    seconds = []
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(bits: str, path: Path, runs: int, device: torch.device, faces: int) -> dict[str, float]:
    """Load a file and restore some faces at once, in this process."""
    backend, empty = choose_backend(device), memory(device)
    start = time.perf_counter()
    restorer = load_restorer(path, device, FLOATS.get(bits))
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
    """Medians of every precision's measures over the rounds, in each of which every row is a process of its own."""
    passed = ["--runs", str(asked.runs), "--device", asked.device, "--faces", str(asked.faces)]
    found: dict[str, list[dict[str, float]]] = {bits: [] for bits in precisions}
    with tempfile.TemporaryDirectory() as folder:
        paths = {bits: Path(folder) / f"{bits}.safetensors" for bits in precisions}
        for bits, path in paths.items():
            make(CONFIGS[name], bits, path, asked.device)
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
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="processes a row; a process may be lucky throughout")
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
