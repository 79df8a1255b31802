"""Where kernels are launched, and in what tiles."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel on the device of its first argument: all launches of this backend, for who counts them.

    Products and sums are not fused into one rounding, whatever a version of Triton does by itself: numbers would change
    with it.
    """
    device = arguments[0].device
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):  # Triton launches on the current one
            kernel[grid](*arguments, **options, enable_fp_fusion=False)
    else:
        kernel[grid](*arguments, **options, enable_fp_fusion=False)


class Tile(NamedTuple):
    """What a program computes: rows and columns of the result, inputs at once, and how."""

    rows: int
    columns: int
    inputs: int
    warps: int
    stages: int


@cache
def tile_of(rows: int, columns: int, inputs: int, device: torch.device) -> Tile:
    """A tile for a product [rows, inputs] x [inputs, columns].

    Large ones read their inputs less often: the largest of which there are enough to keep the device busy.
    """
    deep = 128 if inputs % 128 == 0 else 64
    tiles = [Tile(128, 128, 64, 4, 3), Tile(64, 64, deep, 4, 4), Tile(32, 64, deep, 4, 4)]
    enough = processors(device)
    return next((t for t in tiles if -(-rows // t.rows) * -(-columns // t.columns) >= enough), tiles[-1])


def processors(device: torch.device) -> int:
    """Multiprocessors of an NVIDIA GPU (compute units of an AMD one); 1 of any other device."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
