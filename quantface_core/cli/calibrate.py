"""`quantface calibrate`: a full-precision restorer in, one of 3 to 8 bit integers out."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import ConfigError, UsageError
from ..io.atomic import check_writable
from ..types import BitPlan, Bits, LayerReport, QuantizeSettings
from .devices import add_device, choose_device
from .faces import add_faces, read_faces
from .progress import bar

if TYPE_CHECKING:
    from torch import Tensor

    from ..restorer import Restorer

_SEARCHED = 2  # images at once in the searches: more is slower and hardly better


def add_parser(commands: Any) -> None:
    defaults = QuantizeSettings()
    parser = commands.add_parser("calibrate", help="quantize a restorer", description=__doc__)
    add = parser.add_argument
    add("model", help="a known model's name or a .safetensors file, full precision")
    add_faces(parser, count=16)
    add("--bits", type=parse_bits, default=Bits(4, 4), metavar="wXaY", help="weights and activations (w4a4)")
    add("--plan", type=Path, help="each layer's bits, from `quantface allocate`; goes before --bits")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    add("--block", type=int, default=defaults.block, help="largest rotation block; 1 = no rotation (64)")
    add("--rank", type=int, default=defaults.rank, help="of the low-rank branch; 0 = none (16)")
    add("--seed", type=int, default=defaults.seed, help="of rotation signs and calibration crops (0)")
    add("--unet-only", action="store_true", help="leave autoencoder and embedder in full precision")
    add_device(parser)
    parser.set_defaults(run=run)


def parse_bits(text: str) -> Bits:
    try:
        return Bits.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    from ..io.checkpoint import load_restorer, save_restorer
    from ..io.models import restorer_path
    from ..io.plans import load_plan
    from ..nn.swap import quant_layers

    if arguments.output.suffix != ".safetensors":
        raise UsageError(f"--output {arguments.output}: name a .safetensors file")
    check_writable(arguments.output, "--output")
    settings = QuantizeSettings(
        arguments.bits.weight,
        arguments.bits.activation,
        block=arguments.block,
        rank=arguments.rank,
        seed=arguments.seed,
        parts=("unet",) if arguments.unet_only else QuantizeSettings().parts,
    )
    plan = load_plan(arguments.plan) if arguments.plan else None
    restorer = load_restorer(restorer_path(arguments.model), choose_device(arguments.device))
    if quant_layers(restorer):
        raise UsageError(f"{arguments.model} is quantized already: calibrate its full-precision original")
    images = read_faces(arguments.images, arguments.count, restorer.config.image_size, arguments.degrade)
    reports, notes = quantize(restorer, images, settings, plan)
    save_restorer(restorer, arguments.output, notes=notes)
    print(f"{arguments.output}: {len(reports)} layers, {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


def quantize(
    restorer: Restorer, images: Tensor, settings: QuantizeSettings, plan: BitPlan | None
) -> tuple[list[LayerReport], dict[str, str]]:
    """Calibrate and quantize `restorer` in place, with bars; returns the reports and what a file notes of it."""
    from ..stages.quantize import calibrate_restorer, quantize_restorer

    with bar("calibrate", "image") as progress:
        statistics = calibrate_restorer(restorer, images, progress)
    with bar("quantize", "layer") as progress:
        reports = quantize_restorer(restorer, statistics, images[:_SEARCHED], settings, progress, plan)
    notes = {
        "quantface": __version__,
        "settings": json.dumps(asdict(settings)),
        "calibration_sha256": images_sha256(images),
        "reports": json.dumps([asdict(report) for report in reports]),
    }
    return reports, notes


def images_sha256(images: Tensor) -> str:
    """What identifies a batch of images in a file's notes."""
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()
