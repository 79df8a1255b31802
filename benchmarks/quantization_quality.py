"""What quantizing quantface-mini costs, without training: ours against simpler recipes, on test faces.

    python benchmarks/quantization_quality.py [--bits w4a4 w6a6] [--faces 64] [--picture OUT.png]
    python benchmarks/quantization_quality.py --stressed     # the mini with a diffusion UNet's outliers
    python benchmarks/quantization_quality.py --ablation     # block size, signs, clipping, exponent
    python benchmarks/quantization_quality.py --parts linears --bits w4a4 --stressed     # where the stress is

Every row of ours is built by the same code with parts of the method switched off; comfy-kitchen's ConvRot
is its own package's, on the linears it accepts. Degradations and calibration images have fixed seeds, so
the numbers repeat.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from iqa import FOLDER, create_metric, score
from mini_quality import as_stored, load, to_unit
from PIL import Image
from report import describe_machine, table
from stress import stress
from torch import Tensor, nn

from quantface_core import load_restorer, restorer_path
from quantface_core.degrade import degrade
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from quantface_core.types import Bits, QuantizeSettings

GROUP = 64  # channels: ConvRot's rotation and its packing


@dataclass(frozen=True)
class Method:
    settings: QuantizeSettings = field(default_factory=QuantizeSettings)
    patches: Mapping[str, Any] = field(default_factory=dict)  # constants of the library, for what has no setting


PLAIN = QuantizeSettings(
    scaling=False,
    block=1,
    search_rotation=False,
    search_zero_point=False,
    clipping=False,
    rank=0,
    rounding="nearest",
    branch="svd",
)
OURS = "ours, untrained"
RECIPE = replace(PLAIN, scaling=True, rank=16, branch_bits=16)
SEARCHED = replace(RECIPE, clipping=True, search_zero_point=True)
WHOLE_WIDTH = 8192  # a rotation of all channels where they have a Hadamard matrix
OUR_BRANCH = {"rank": QuantizeSettings.rank, "branch_bits": QuantizeSettings.branch_bits}
COMPENSATED = {"rounding": "compensated"}
_GPTQ = {"quantface_core.quant.compensate._STRENGTHS": ()}  # feedback alone, without the ridge regression
METHODS = {
    "MaxMin rounding": Method(PLAIN),
    "scaling": Method(replace(PLAIN, scaling=True)),
    "rotation": Method(replace(PLAIN, block=64)),
    "scaling + rotation": Method(replace(PLAIN, scaling=True, block=64)),
    "rotation of all channels + clips + GPTQ (QuaRot's recipe)": Method(
        replace(PLAIN, block=WHOLE_WIDTH, clipping=True, **COMPENSATED), _GPTQ
    ),
    "SVD branch + scaling (SVDQuant's recipe)": Method(RECIPE),
    "the same with GPTQ, as its authors have it": Method(replace(RECIPE, **COMPENSATED), _GPTQ),
    "the same with GPTQ and our searches for clips and zero points": Method(replace(SEARCHED, **COMPENSATED), _GPTQ),
    "the same with rank 32 in 8 bits, as ours has": Method(replace(SEARCHED, **OUR_BRANCH, **COMPENSATED), _GPTQ),
    "the same with our rounding and these searches": Method(replace(SEARCHED, **COMPENSATED)),
    "ours, without the search for clips": Method(QuantizeSettings(clipping=False)),
    "ours, rounded to nearest": Method(QuantizeSettings(rounding="nearest")),
    "ours, GPTQ": Method(patches=_GPTQ),
    OURS: Method(),
}


def _no_signs(channels: int, seed: int) -> Tensor:
    return torch.ones(channels, dtype=torch.float64)


_SIGNS = {f"quantface_core.kernels.{room}.random_signs": _no_signs for room in ("hadamard",)}
_EXPONENTS = "quantface_core.quant.search.EXPONENTS"
ABLATION = {
    OURS: Method(),
    "no rotation": Method(QuantizeSettings(block=1)),
    "every layer rotated, signs drawn once": Method(QuantizeSettings(search_rotation=False)),
    "blocks of 16": Method(QuantizeSettings(block=16)),
    "blocks of 32": Method(QuantizeSettings(block=32)),
    "blocks up to 256": Method(QuantizeSettings(block=256)),
    "no random signs": Method(patches=_SIGNS),
    "symmetric codes": Method(QuantizeSettings(search_zero_point=False)),
    "no clipping": Method(QuantizeSettings(clipping=False)),
    "no scaling": Method(QuantizeSettings(scaling=False)),
    "exponent 0.5 everywhere": Method(patches={_EXPONENTS: (0.5,)}),
    "rounded to nearest": Method(QuantizeSettings(rounding="nearest")),
    "GPTQ alone": Method(patches=_GPTQ),
    "branch by SVD alone": Method(QuantizeSettings(branch="svd")),
    "no branch": Method(QuantizeSettings(rank=0)),
    "branch of rank 16": Method(QuantizeSettings(rank=16)),
    "branch in 16 bits": Method(QuantizeSettings(branch_bits=16)),
}


def run(restorer: OneStepRestorer, degraded: Tensor) -> Tensor:
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


def convrot_layers(restorer: OneStepRestorer) -> list[str]:
    """The linears that comfy-kitchen's ConvRot accepts, the time embedding left out as everywhere."""
    return [
        name
        for name, layer in restorer.named_modules()
        if isinstance(layer, nn.Linear) and layer.in_features % GROUP == 0 and "time_emb" not in name
    ]


def with_convrot(restorer: OneStepRestorer) -> OneStepRestorer:
    model = copy.deepcopy(restorer)
    for name in convrot_layers(model):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, ConvRot(model.get_submodule(name)))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w6a6", "w4a6", "w4a4"])
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--parts", nargs="+", choices=["whole", "unet", "linears"], default=["whole", "unet"])
    parser.add_argument("--calibration", type=int, default=16, help="training faces calibrated with")
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose name holds one of these")
    parser.add_argument("--stressed", action="store_true", help="on the stressed copy of the mini")
    parser.add_argument("--ablation", action="store_true", help="parts of ours, w4a4, whole pipeline")
    parser.add_argument("--picture", type=Path, help="first 8 faces: full precision, then ours at each width")
    arguments = parser.parse_args()
    if arguments.ablation:
        arguments.bits, arguments.parts = ["w4a4"], ["whole"]

    test, train = (load(FOLDER / "faces" / name) for name in ("test", "train"))
    clean = to_unit(test[: arguments.faces])
    degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test[: arguments.faces])])
    images = to_unit([degrade(face, seed) for seed, face in enumerate(train[: arguments.calibration])]) * 2 - 1
    full = load_restorer(restorer_path("quantface-mini"))
    exact = run(full, degraded)
    if arguments.stressed:
        full = stress(full)
    statistics = calibrate_restorer(full, images)
    took: list[float] = []  # seconds of the processor for the row that is being made
    psnr, ms_ssim = create_metric("psnr"), create_metric("ms_ssim")

    def measured(name: str, pictures: Tensor) -> list[str | float]:
        same = pictures is exact
        columns: list[Tensor] = [score(psnr, pictures, clean), score(ms_ssim, pictures, clean)]
        close = "" if same else float(score(psnr, pictures, exact).mean())
        return [name, close, *(float(c.mean()) for c in columns), took.pop() if took else ""]

    def quantized(settings: QuantizeSettings, layers: list[str] | None = None) -> Tensor:
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
            weight_bits, activation_bits = Bits.parse(bits)
            rows = [measured("full precision", exact)]
            for name, method in (ABLATION if arguments.ablation else METHODS).items():
                if arguments.rows and not any(text in name for text in arguments.rows):
                    continue
                chosen = ("unet",) if parts == "unet" else method.settings.parts
                widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
                patches = [patch(target, value) for target, value in method.patches.items()]
                for one in patches:
                    one.start()
                only = convrot_layers(full) if parts == "linears" else None
                pictures = quantized(replace(method.settings, parts=chosen, **widths), only)
                for one in patches:
                    one.stop()
                rows.append(measured(name, pictures))
                if name == OURS and parts == "whole":
                    shown.append(pictures)
            if bits == "w4a4" and not arguments.ablation and not arguments.rows:
                same = convrot_layers(full)
                rows.append(measured(f"comfy-kitchen ConvRot, {len(same)} linears", run(with_convrot(full), degraded)))
                if parts != "linears":
                    rows.append(measured(f"ours, the same {len(same)} linears", quantized(QuantizeSettings(), same)))
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
