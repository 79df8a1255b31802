"""Time and memory of quantizing the full-size OSDFace configuration (979 M random parameters) with 4 images.

python benchmarks/quantize_full_size.py [--bits w4a4] [--output FILE]
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
import time
from pathlib import Path

import torch
from iqa import FOLDER
from report import describe_machine, table

from quantface_core import OneStepRestorer, save_restorer
from quantface_core.cli.faces import read_faces
from quantface_core.restorer.configs import OSDFACE
from quantface_core.stages.calibrate import calibrate
from quantface_core.stages.quantize import quantize_restorer
from quantface_core.types import QuantizeSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--output", type=Path, help="keep the file")
    arguments = parser.parse_args()
    weight_bits, activation_bits = map(int, re.findall(r"\d", arguments.bits))
    rows: list[list[str | float]] = []
    began = time.perf_counter()

    def stage(name: str) -> None:
        nonlocal began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append([name, time.perf_counter() - began, peak])
        print(f"{name}: {rows[-1][1]:.0f} s, peak {peak:.1f} GB", flush=True)
        began = time.perf_counter()

    torch.manual_seed(0)
    restorer = OneStepRestorer(OSDFACE).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    images = read_faces(FOLDER / "faces" / "large", 4, OSDFACE.image_size, degraded=True)
    stage("build, read images")
    statistics = calibrate(restorer, images)
    stage("calibrate")
    quantize_restorer(restorer, statistics, images[:2], QuantizeSettings(weight_bits, activation_bits))
    stage("balance and quantize")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.output or Path(folder) / "osdface.safetensors"
        save_restorer(restorer, path)
        stage(f"save ({path.stat().st_size / 1e6:.0f} MB)")
    rows.append(["in all", sum(float(row[1]) for row in rows), max(float(row[2]) for row in rows)])
    print(f"\n{describe_machine()}; random weights\n\n{table([arguments.bits, 'seconds', 'peak (GB)'], rows, 1)}")


if __name__ == "__main__":
    main()
