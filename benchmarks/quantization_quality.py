"""Measure what quantizing quantface-mini costs without training: ours against simpler recipes, on test faces.

    python benchmarks/quantization_quality.py [--bits w4a4 w6a6] [--faces 64] [--picture OUT.png]
    python benchmarks/quantization_quality.py --stressed     # the mini with a diffusion UNet's outliers
    python benchmarks/quantization_quality.py --ablation     # block size, signs, clipping, exponent
    python benchmarks/quantization_quality.py --parts linears --bits w4a4 --stressed     # where the stress is

All rows but one are built by the same code with parts of the method switched off; comfy-kitchen's ConvRot is from its
own package, on the linears it accepts. Degradations and calibration images have fixed seeds, so results are
reproducible.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from images import SHARED, as_stored, load, to_unit
from iqa import create_metric, score
from methods import ABLATION, METHODS, OURS
from PIL import Image
from report import describe_machine, table
from stress import stress
from torch import Tensor, nn

from quantface_core import load_restorer, restorer_path
from quantface_core.degrade import degrade
from quantface_core.restorer import RestorerModel
from quantface_core.stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from quantface_core.types import RestorerQuantConfig

GROUP = 64  # channels: ConvRot's rotation and its packing


def run(restorer: RestorerModel, degraded: Tensor) -> Tensor:
    """Restored images [B, 3, H, W] in 0 to 1, as stored, of degraded ones in 0 to 1."""
    with torch.inference_mode():
        return as_stored(torch.cat([restorer(x * 2 - 1) for x in degraded.split(4)]) / 2 + 0.5)


class ConvRot(nn.Module):
    """comfy-kitchen's W4A4 linear, from its package."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        from comfy_kitchen.backends.eager import convrot_w4a4 as kitchen

        self.kitchen, self.bias = kitchen, layer.bias
        self.codes, self.scales = kitchen.quantize_convrot_w4a4_weight(layer.weight.detach(), GROUP)

    def forward(self, x: Tensor) -> Tensor:
        return self.kitchen.convrot_w4a4_linear(x, self.codes, self.scales, self.bias, GROUP)


def convrot_layers(restorer: RestorerModel) -> list[str]:
    """Names of the linears that comfy-kitchen's ConvRot accepts, without the time embedding, as everywhere."""
    return [
        name
        for name, layer in restorer.named_modules()
        if isinstance(layer, nn.Linear) and layer.in_features % GROUP == 0 and "time_emb" not in name
    ]


def with_convrot(restorer: RestorerModel) -> RestorerModel:
    """A copy of a restorer with ConvRot's linears."""
    model = copy.deepcopy(restorer)
    for name in convrot_layers(model):
        parent, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(model.get_submodule(parent), child, ConvRot(layer))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w6a6", "w4a6", "w4a4"])
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--parts", nargs="+", choices=["whole", "unet", "linears"], default=["whole", "unet"])
    parser.add_argument("--calibration", type=int, default=16, help="training faces calibrated with")
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose name contains one of these")
    parser.add_argument("--stressed", action="store_true", help="on the stressed copy of the mini")
    parser.add_argument("--ablation", action="store_true", help="parts of ours, w4a4, whole pipeline")
    parser.add_argument("--picture", type=Path, help="first 8 faces: full precision, then ours at each width")
    arguments = parser.parse_args()
    if arguments.ablation:
        arguments.bits, arguments.parts = ["w4a4"], ["whole"]

    test, train = (load(SHARED / "faces" / name) for name in ("test", "train"))
    clean = to_unit(test[: arguments.faces])
    degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test[: arguments.faces])])
    images = to_unit([degrade(face, seed) for seed, face in enumerate(train[: arguments.calibration])]) * 2 - 1
    full = load_restorer(restorer_path("quantface-mini"))
    exact = run(full, degraded)
    if arguments.stressed:
        full = stress(full)
    statistics = calibrate_restorer(full, images)
    took: list[float] = []  # CPU seconds of the row being made
    psnr, ms_ssim = create_metric("psnr"), create_metric("ms_ssim")

    def measured(name: str, pictures: Tensor) -> list[str | float]:
        same = pictures is exact
        columns: list[Tensor] = [score(psnr, pictures, clean), score(ms_ssim, pictures, clean)]
        close = "" if same else float(score(psnr, pictures, exact).mean())
        return [name, close, *(float(c.mean()) for c in columns), took.pop() if took else ""]

    def quantized(settings: RestorerQuantConfig, layers: list[str] | None = None) -> Tensor:
        model = copy.deepcopy(full)
        chosen = {name: statistics[name] for name in layers} if layers else statistics
        began = time.process_time()
        quantize_restorer(model, chosen, images_at_once(full, images), settings)
        took.append(time.process_time() - began)
        return run(model, degraded)

    print(f"{len(clean)} faces of test, {len(images)} of train to calibrate{', stressed' * arguments.stressed}")
    print(describe_machine(), flush=True)
    shown = [exact]
    for parts in arguments.parts:
        for bits in arguments.bits:
            rows = [measured("full precision", exact)]
            for name, method in (ABLATION if arguments.ablation else METHODS).items():
                if arguments.rows and not any(text in name for text in arguments.rows):
                    continue
                settings = method.at(bits).settings
                if parts == "unet":
                    settings = replace(settings, parts=("unet",))
                only = convrot_layers(full) if parts == "linears" else None
                with method.patched():
                    pictures = quantized(settings, only)
                rows.append(measured(name, pictures))
                if name == OURS and parts == "whole":
                    shown.append(pictures)
            if bits == "w4a4" and not arguments.ablation and not arguments.rows:
                same = convrot_layers(full)
                rows.append(measured(f"comfy-kitchen ConvRot, {len(same)} linears", run(with_convrot(full), degraded)))
                if parts != "linears":
                    rows.append(measured(f"ours, the same {len(same)} linears", quantized(RestorerQuantConfig(), same)))
            header = [
                f"{bits}, {parts}",
                "PSNR to full precision (dB)",
                "PSNR to original (dB)",
                "MS-SSIM to original",
                "seconds",
            ]
            print(f"\n{table(header, rows)}", flush=True)
    if arguments.picture:
        rows_shown = torch.stack(shown)[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        Image.fromarray((rows_shown * 255).round().byte().numpy().astype(np.uint8)).save(arguments.picture)


if __name__ == "__main__":
    main()
