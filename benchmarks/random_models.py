"""Files of restorers with random weights, in full precision or low bits.

Weights are normal, as after rotation, because speed may depend on them: in 6-bit convolutions, on how many values
`kernels/onednn/point.py` multiplies separately. Low-bit layers have rotation (64), scales and a low-rank branch, as
made by `quantface calibrate`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from quantface_core import OneStepRestorer, save_restorer
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.quantize import per_channel_scale, quantize
from quantface_core.nn.fold import fold
from quantface_core.nn.swap import empty_like, quantizable, swap
from quantface_core.quant.fold_rules import fold_paths
from quantface_core.restorer import OSDFACE, QUANTFACE_MINI, RestorerConfig, RestorerModel
from quantface_core.restorer.fold_rules import RULES
from quantface_core.stages.quantize import restorer_formats
from quantface_core.types import BRANCH_BITS, Bits, RestorerQuantConfig

CONFIGS = {"quantface-mini": QUANTFACE_MINI, "osdface": OSDFACE}
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
RANK, WIDTH = RestorerQuantConfig.rank, RestorerQuantConfig.branch_bits


def make(
    config: RestorerConfig, bits: str, path: Path, device: str = "cpu", rank: int = RANK, branch_bits: int = WIDTH
) -> None:
    """Write a restorer at a precision: one of `FLOATS`, or bits such as w4a4; a GPU is faster at it."""
    torch.manual_seed(0)
    with torch.device(device):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
    if bits not in FLOATS:
        low_bit_layers(restorer, bits, rank, branch_bits)
        for each in fold_paths(restorer.cpu(), RULES):
            fold(each)
    save_restorer(restorer.cpu(), path, FLOATS.get(bits, torch.float16))


@contextmanager
def random_model(model: str, bits: str) -> Iterator[Path]:
    """The file that `make` writes for one of `CONFIGS`, until the block ends; made on the GPU where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        make(CONFIGS[model], bits, path, "cuda" if torch.cuda.is_available() else "cpu")
        torch.cuda.empty_cache()
        yield path


def low_bit_layers(restorer: RestorerModel, bits: str, rank: int = RANK, branch_bits: int = WIDTH) -> None:
    """Replace all layers that are quantized by low-bit ones with random weights."""
    settings = RestorerQuantConfig(*Bits.parse(bits), rank=rank, branch_bits=branch_bits)
    layers = quantizable(restorer)
    for name, form in restorer_formats(restorer, settings).items():
        layer = layers[name]
        low = empty_like(layer, form)
        weight = layer.weight.normal_(0, float(layer.weight.std()))
        scale = per_channel_scale(weight, form.weight_bits)
        low.weight_scale = scale.flatten()
        low.packed = pack(quantize(weight, scale, form.weight_bits), form.weight_bits)
        if form.rank:
            down, up = (torch.randn(half.shape, device=half.device) for half in (low.down, low.up))
            low.set_branch(0.01 * down, 0.01 * up)
        swap(restorer, {name: low})


def add_branch_options(parser: argparse.ArgumentParser) -> None:
    """Add `--rank` and `--branch-bits` of low-bit layers."""
    parser.add_argument("--rank", type=int, default=RANK, help=f"of the low-rank branches ({RANK})")
    parser.add_argument("--branch-bits", type=int, choices=BRANCH_BITS, default=WIDTH, help=f"of its weights ({WIDTH})")
