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
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
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

HEADER = ["PSNR to full precision (dB)", "PSNR to original (dB)", "MS-SSIM to original", "seconds"]
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


class Quality:
    """The images that all rows share, and how a row's model is made and measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        test, train = (load(SHARED / "faces" / name) for name in ("test", "train"))
        test, train = test[: arguments.faces], train[: arguments.calibration]
        self.clean = to_unit(test)
        self.degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test)])
        self.images = to_unit([degrade(face, seed) for seed, face in enumerate(train)]) * 2 - 1
        full = load_restorer(restorer_path("quantface-mini"))
        self.exact = run(full, self.degraded)
        self.full = stress(full) if arguments.stressed else full
        self.statistics = calibrate_restorer(self.full, self.images)
        self.psnr, self.ms_ssim = create_metric("psnr"), create_metric("ms_ssim")

    def row(self, name: str, pictures: Tensor, seconds: float | str = "") -> list[str | float]:
        """A row of the table, of restored images; `seconds` are those of making the model."""
        columns = [score(metric, pictures, self.clean) for metric in (self.psnr, self.ms_ssim)]
        close = "" if pictures is self.exact else float(score(self.psnr, pictures, self.exact).mean())
        return [name, close, *(float(c.mean()) for c in columns), seconds]

    def quantized(self, settings: RestorerQuantConfig, layers: list[str] | None = None) -> tuple[Tensor, float]:
        """(images restored by a model of which these layers, None = all, are quantized, CPU seconds of making it)."""
        model = copy.deepcopy(self.full)
        chosen = {name: self.statistics[name] for name in layers} if layers else self.statistics
        began = time.process_time()
        quantize_restorer(model, chosen, images_at_once(self.full, self.images), settings)
        seconds = time.process_time() - began
        return run(model, self.degraded), seconds

    def convrot_rows(self, with_ours: bool) -> Iterator[list[str | float]]:
        """ConvRot's row and, on request, ours of the same linears."""
        same = convrot_layers(self.full)
        pictures = run(with_convrot(self.full), self.degraded)
        yield self.row(f"comfy-kitchen ConvRot, {len(same)} linears", pictures)
        if with_ours:
            yield self.row(f"ours, the same {len(same)} linears", *self.quantized(RestorerQuantConfig(), same))


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

    quality = Quality(arguments)
    methods = {
        name: method
        for name, method in (ABLATION if arguments.ablation else METHODS).items()
        if not arguments.rows or any(text in name for text in arguments.rows)
    }
    counts = f"{len(quality.clean)} faces of test, {len(quality.images)} of train to calibrate"
    print(f"{counts}{', stressed' * arguments.stressed}")
    print(describe_machine(), flush=True)
    shown = [quality.exact]
    for parts, bits in product(arguments.parts, arguments.bits):
        rows = [quality.row("full precision", quality.exact)]
        only = convrot_layers(quality.full) if parts == "linears" else None
        for name, method in methods.items():
            settings = method.at(bits).settings
            if parts == "unet":
                settings = replace(settings, parts=("unet",))
            with method.patched():
                pictures, seconds = quality.quantized(settings, only)
            rows.append(quality.row(name, pictures, seconds))
            if name == OURS and parts == "whole":
                shown.append(pictures)
        if bits == "w4a4" and not arguments.ablation and not arguments.rows:
            rows += quality.convrot_rows(with_ours=parts != "linears")
        print(f"\n{table([f'{bits}, {parts}', *HEADER], rows)}", flush=True)
    if arguments.picture:
        rows_shown = torch.stack(shown)[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        Image.fromarray((rows_shown * 255).round().byte().numpy().astype(np.uint8)).save(arguments.picture)


if __name__ == "__main__":
    main()
