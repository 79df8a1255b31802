"""`quantface calibrate`: a full-precision restorer in, one of 3 to 8 bit integers out."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .. import __version__
from ..errors import ImageError, UsageError
from ..types import QuantizeSettings

if TYPE_CHECKING:
    from torch import Tensor

_SEARCHED = 2  # images at once in the searches: more is slower and hardly better


def add_parser(commands: Any) -> None:
    defaults = QuantizeSettings()
    parser = commands.add_parser("calibrate", help="quantize a restorer", description=__doc__)
    add = parser.add_argument
    add("model", help="a known model's name or a .safetensors file, full precision")
    add("--images", type=Path, required=True, help="folder of aligned, degraded faces such as it will restore")
    add("--bits", type=_bits, default=(4, 4), metavar="wXaY", help="weights and activations, 3 to 8 each (w4a4)")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    add("--count", type=int, default=16, help="at most this many images (16)")
    add("--degrade", action="store_true", help="the images are clean: degrade them first, with seeds")
    add("--block", type=int, default=defaults.block, help="largest rotation block; 1 = no rotation (64)")
    add("--rank", type=int, default=defaults.rank, help="of the low-rank branch; 0 = none (16)")
    add("--seed", type=int, default=defaults.seed, help="of rotation signs and calibration crops (0)")
    add("--unet-only", action="store_true", help="leave autoencoder and embedder in full precision")
    parser.set_defaults(run=run)


def _bits(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"w([3-8])a([3-8])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not wXaY with 3 to 8 bits each, such as w4a4 or w4a6")
    return int(match[1]), int(match[2])


def run(arguments: argparse.Namespace) -> int:
    from ..io.checkpoint import load_restorer, save_restorer
    from ..io.models import restorer_path
    from ..nn.swap import quant_layers
    from ..stages.calibrate import calibrate
    from ..stages.quantize import quantize_restorer

    if arguments.output.suffix != ".safetensors":
        raise UsageError(f"--output {arguments.output}: name a .safetensors file")
    weight_bits, activation_bits = arguments.bits
    settings = QuantizeSettings(
        weight_bits,
        activation_bits,
        block=arguments.block,
        rank=arguments.rank,
        seed=arguments.seed,
        parts=("unet",) if arguments.unet_only else QuantizeSettings().parts,
    )
    restorer = load_restorer(restorer_path(arguments.model))
    if quant_layers(restorer):
        raise UsageError(f"{arguments.model} is quantized already: calibrate its full-precision original")
    images = read_faces(arguments.images, arguments.count, restorer.config.image_size, arguments.degrade)
    with tqdm(total=len(images), desc="calibrate", unit="image", disable=None) as bar:
        statistics = calibrate(restorer, images, lambda done, _: bar.update(done - bar.n))
    with tqdm(desc="quantize", unit="layer", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        reports = quantize_restorer(restorer, statistics, images[:_SEARCHED], settings, progress)
    notes = {
        "quantface": __version__,
        "settings": json.dumps(asdict(settings)),
        "calibration_sha256": hashlib.sha256(images.numpy().tobytes()).hexdigest(),
        "reports": json.dumps([asdict(report) for report in reports]),
    }
    save_restorer(restorer, arguments.output, notes=notes)
    print(f"{arguments.output}: {len(reports)} layers, {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


def read_faces(folder: Path, count: int, size: int, degraded: bool) -> Tensor:
    """The first pictures of a folder as [N, 3, size, size] float32 in [-1, 1]. Raises UsageError, ImageError."""
    import cv2
    import numpy as np
    import torch

    from ..degrade import degrade
    from ..io.photos import read_photo
    from .jobs import find_photos

    if count < 1:
        raise UsageError(f"--count is at least 1, got {count}")
    if not folder.is_dir():
        raise UsageError(f"--images {folder}: no such folder")
    faces = []
    for seed, path in enumerate(find_photos([str(folder)])[:count]):
        pixels = read_photo(path).pixels
        if max(pixels.shape[:2]) > 1.1 * min(pixels.shape[:2]):
            raise ImageError(f"{path}: calibration wants square, aligned faces, this is {pixels.shape[1::-1]}")
        if pixels.dtype == np.uint16:
            pixels = (pixels // 257).astype(np.uint8)
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        faces.append(degrade(pixels, seed) if degraded else pixels)
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1
