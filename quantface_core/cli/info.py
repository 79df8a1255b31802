"""`quantface info`: show what a model file holds."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .devices import MODEL_HELP
from .lean_diffusers import import_lean_diffusers
from .progress import ProgressBars

if TYPE_CHECKING:
    from torch import nn


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("info", help="show what a model file holds", description=__doc__)
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--layers", action="store_true", help="one line per layer")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.own_process:
        import_lean_diffusers()
    from ..io.checksum import sha256
    from ..nn.swap import quant_layers
    from ..pipelines.fetch import model_path
    from ..pipelines.models import notes_of

    with ProgressBars() as callbacks:
        path = model_path(arguments.model, callbacks)
    model, what = _load(path)
    layers = quant_layers(model)
    low_bit = sum(layer.packed.numel() * 8 // layer.format.weight_bits for layer in layers.values())
    weights = low_bit + sum(p.numel() for p in model.parameters())
    size, float32_size = path.stat().st_size, 4 * weights  # bytes
    print(f"{path}: {what}")
    print(f"{weights / 1e6:.2f} M weights, {len(layers)} low-bit layers with {low_bit / 1e6:.2f} M of them")
    print(f"{size / 1e6:.1f} MB, {100 * size / float32_size:.1f} % of float32's {float32_size / 1e6:.1f} MB")
    if layers:
        average = 8 * sum(layer.packed.numel() for layer in layers.values()) / low_bit
        print(f"{average:.2f} bits per low-bit weight on average")
    groups = Counter((n.split(".")[0], str(x.format.bits)) for n, x in layers.items())
    for (part, bits), count in sorted(groups.items()):
        print(f"  {part:10s} {bits}  {count} {'layer' if count == 1 else 'layers'}")
    for key, note in notes_of(path).items():
        if key != "reports":  # of every layer
            print(f"{key}: {note}")
    print(f"sha256: {sha256(path)}")
    if arguments.layers:
        for name, layer in layers.items():
            fmt = layer.format
            zero = "symmetric" if fmt.zero_point is None else f"zero point {fmt.zero_point}"
            print(
                f"{name:60s} {list(layer.shape)!s:22s} {fmt.bits} rotation {fmt.block} rank {fmt.rank} "
                f"clip {fmt.clip} {zero}{', per-pixel scale' * fmt.per_pixel}"
            )
    return 0


def _load(path: Path) -> tuple[nn.Module, str]:
    """The model in a restorer's or in `save_quantized`'s file, and what it is."""
    from ..io.checkpoint import load_restorer
    from ..io.file_diagnosis import is_safetensors
    from ..quant.checkpoint import load_quantized
    from ..quant.model_file import FORMAT, opened

    if path.is_file() and is_safetensors(path):
        with opened(path) as file:
            kind = (file.metadata() or {}).get("format")
        if kind == FORMAT:
            model = load_quantized(path)
            return model, type(model).__name__
    restorer = load_restorer(path)
    return restorer, f"{restorer.config.name}, {restorer.image_size}x{restorer.image_size}"
