"""What quantizing quantface-mini costs, without training: ours against simpler recipes, on test faces.

    python benchmarks/quantization_quality.py [--bits w4a4 w6a6] [--faces 64] [--picture OUT.png]

Every row is built by the same code with parts of the method switched off; degradations and calibration
images have fixed seeds, so the numbers repeat.
"""

from __future__ import annotations

import argparse
import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from iqa import FOLDER, create_metric, score
from mini_quality import as_stored, load, to_unit
from PIL import Image
from report import describe_machine, table
from torch import Tensor

from quantface_core import load_restorer, restorer_path
from quantface_core.degrade import degrade
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.calibrate import calibrate
from quantface_core.stages.quantize import quantize_restorer
from quantface_core.types import QuantizeSettings

PLAIN = QuantizeSettings(scaling=False, block=1, clipping=False, rank=0)
METHODS = {
    "MaxMin rounding": PLAIN,
    "scaling": replace(PLAIN, scaling=True),
    "rotation": replace(PLAIN, block=64),
    "scaling + rotation": replace(PLAIN, scaling=True, block=64),
    "scaling + SVD branch (SVDQuant's recipe)": replace(PLAIN, scaling=True, rank=16),
    "ours without branch": QuantizeSettings(rank=0),
    "ours without rotation": QuantizeSettings(block=1),
    "ours without clipping": QuantizeSettings(clipping=False),
    "ours, untrained": QuantizeSettings(),
}


def run(restorer: OneStepRestorer, degraded: Tensor) -> Tensor:
    with torch.inference_mode():
        return as_stored(torch.cat([restorer(x * 2 - 1) for x in degraded.split(4)]) / 2 + 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w6a6", "w4a6", "w4a4"])
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--parts", nargs="+", choices=["whole", "unet"], default=["whole", "unet"])
    parser.add_argument("--calibration", type=int, default=16, help="training faces calibrated with")
    parser.add_argument("--picture", type=Path, help="first 8 faces: full precision, then ours at each width")
    arguments = parser.parse_args()

    test, train = (load(FOLDER / "faces" / name) for name in ("test", "train"))
    clean = to_unit(test[: arguments.faces])
    degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test[: arguments.faces])])
    images = to_unit([degrade(face, seed) for seed, face in enumerate(train[: arguments.calibration])]) * 2 - 1
    full = load_restorer(restorer_path("quantface-mini"))
    statistics = calibrate(full, images)
    psnr, ms_ssim = create_metric("psnr"), create_metric("ms_ssim")
    exact = run(full, degraded)

    def measured(name: str, pictures: Tensor) -> list[str | float]:
        same = pictures is exact
        columns: list[Tensor] = [score(psnr, pictures, clean), score(ms_ssim, pictures, clean)]
        return [name, "" if same else float(score(psnr, pictures, exact).mean()), *(float(c.mean()) for c in columns)]

    print(f"{len(clean)} faces of test, {len(images)} of train to calibrate\n{describe_machine()}")
    shown = [exact]
    for parts in arguments.parts:
        for bits in arguments.bits:
            weight_bits, activation_bits = map(int, re.findall(r"\d", bits))
            rows = [measured("full precision", exact)]
            for name, method in METHODS.items():
                chosen = ("unet",) if parts == "unet" else method.parts
                settings = replace(method, weight_bits=weight_bits, activation_bits=activation_bits, parts=chosen)
                model = copy.deepcopy(full)
                quantize_restorer(model, statistics, images[:2], settings)
                pictures = run(model, degraded)
                rows.append(measured(name, pictures))
                if method == METHODS["ours, untrained"] and parts == "whole":
                    shown.append(pictures)
            header = [f"{bits}, {parts}", "PSNR to full precision (dB)", "PSNR to original (dB)", "MS-SSIM to original"]
            print(f"\n{table(header, rows)}", flush=True)
    if arguments.picture:
        rows_shown = torch.stack(shown)[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        Image.fromarray((rows_shown * 255).round().byte().numpy().astype(np.uint8)).save(arguments.picture)


if __name__ == "__main__":
    main()
