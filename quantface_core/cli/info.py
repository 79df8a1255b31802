"""`quantface info`: show what a model file holds."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from .devices import MODEL_HELP
from .lean_diffusers import import_lean_diffusers
from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("info", help="show what a model file holds", description=__doc__)
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--layers", action="store_true", help="one line per layer")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.own_process:
        import_lean_diffusers()
    from ..io.checkpoint import load_restorer
    from ..io.checksum import sha256
    from ..nn.swap import quant_layers
    from ..pipelines.fetch import model_path
    from ..pipelines.models import notes_of

    with ProgressBars() as callbacks:
        path = model_path(arguments.model, callbacks)
    restorer = load_restorer(path)
    layers = quant_layers(restorer)
    low_bit = sum(layer.packed.numel() * 8 // layer.format.weight_bits for layer in layers.values())
    weights = low_bit + sum(p.numel() for p in restorer.parameters())
    size, float32_size = path.stat().st_size, 4 * weights  # bytes
    print(f"{path}: {restorer.config.name}, {restorer.image_size}x{restorer.image_size}")
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
