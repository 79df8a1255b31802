"""Where kernels are launched, and in what tiles."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which on machines with several may be another than the tensor's."""
    here = not x.is_cuda or x.device.index == torch.cuda.current_device()
    return nullcontext() if here else torch.cuda.device(x.device)


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
