"""Compare ours with every rival on a network with its authors' weights: Real-ESRGAN x4plus, on faces of 64 pixels.

    PYTHONPATH=.:.bench python benchmarks/real_weights.py [--bits w4a4 w6a6] [--faces 16] [--picture OUT.png]

All convolutions but the first and the last, which stay in full precision in every row. The weights are fetched as
`esrgan.py` says. `--picture` shows two faces: full precision, then the rows of `SHOWN` at the first widths.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from comparison import BEST, RIVALS
from esrgan import real_esrgan
from images import SHARED, as_stored, load, to_unit
from methods import METHODS, OURS
from PIL import Image
from report import describe_machine, table
from torch import Tensor, nn

from quantface_core.quant.checkpoint import save_quantized
from quantface_core.quant.fisher import FISHER_BATCHES
from quantface_core.quant.observe import calibrate
from quantface_core.quant.quantize import plan_formats, quantize_layers

EDGES = ["first", "last"]
SHOWN = ("QuaRot's recipe", "SVDQuant with GPTQ", BEST, "ours")
SIDE = 64  # pixels of the network's input


def small(folder: str, count: int) -> tuple[Tensor, Tensor]:
    """Faces in 0 to 1 at the network's input size, [B, 3, 64, 64], and at its output's."""
    faces = [Image.fromarray(face) for face in load(SHARED / "faces" / folder)[:count]]
    sizes = (SIDE, 4 * SIDE)
    inputs, targets = ([np.asarray(f.resize((s, s), Image.Resampling.BOX)) for f in faces] for s in sizes)
    return to_unit(inputs), to_unit(targets)


def run(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return as_stored(torch.cat([model(x) for x in inputs.split(1)]))


def psnr(images: Tensor, targets: Tensor) -> float:
    """Mean over the images, in dB."""
    return float(-10 * (images - targets).square().mean((1, 2, 3)).log10().mean())


def megabytes(model: nn.Module) -> float:
    """The size of a low-bit model's file, MB."""
    with tempfile.TemporaryDirectory() as folder:
        save_quantized(model, path := Path(folder) / "model.safetensors")
        return path.stat().st_size / 1e6


class Rows:
    """Quantizes copies of the network, all from the same statistics, and measures them."""

    def __init__(self, full: nn.Module, batches: list[Tensor], inputs: Tensor, targets: Tensor) -> None:
        self.full, self.batches, self.inputs, self.targets = full, batches, inputs, targets
        self.statistics = calibrate(full, batches, fisher_batches=FISHER_BATCHES)
        self.exact = run(full, inputs)

    def row(self, name: str, bits: str) -> tuple[list[str | float], Tensor]:
        """A row of the table, and the outputs, [B, 3, 256, 256] in 0 to 1."""
        model, method = copy.deepcopy(self.full), METHODS[{**RIVALS, "ours": OURS}[name]].at(bits)
        formats = plan_formats(model, method.settings, exclude=EDGES)
        began = time.process_time()
        with method.patched():
            quantize_layers(model, self.statistics, self.batches, formats, method.settings)
        took = time.process_time() - began
        made = run(model, self.inputs)
        return [name, bits, megabytes(model), took, psnr(made, self.exact), psnr(made, self.targets)], made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", default=["w4a4", "w6a6"])
    parser.add_argument("--faces", type=int, default=16, help="test faces measured")
    parser.add_argument("--calibration", type=int, default=8, help="training faces calibrated with")
    parser.add_argument("--picture", type=Path, help="write two faces by several methods here")
    options = parser.parse_args()
    inputs, targets = small("test", options.faces)
    batches = list(small("train", options.calibration)[0].split(1))
    rows = Rows(real_esrgan(), batches, inputs, targets)
    print(f"{options.faces} test faces of {SIDE} pixels, {options.calibration} training faces to calibrate")
    print(describe_machine(), flush=True)
    header = ["method", "asked", "MB", "seconds", "PSNR to full (dB)", "PSNR to original (dB)"]
    parameters = sum(p.numel() for p in rows.full.parameters())
    found: list[list[str | float]] = [["full precision", "", parameters * 4e-6, "", "", psnr(rows.exact, targets)]]
    pictures = [rows.exact]
    for bits in options.bits:
        for name in (*RIVALS, "ours"):
            row, made = rows.row(name, bits)
            found.append(row)
            print(table(header, [row], 2).splitlines()[-1], flush=True)
            if name in SHOWN and bits == options.bits[0]:
                pictures.append(made)
    print(f"\n{table(header, found, 2)}")
    if options.picture:
        sheet = torch.cat([torch.cat(list(images[:2]), 1) for images in pictures], 2)
        Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy()).save(options.picture)


if __name__ == "__main__":
    main()
