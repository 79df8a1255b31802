"""Kernel launches, and the choice of tiles."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch

from ...runtime.device import multiprocessors

_SHARES = {128: 0.60, 64: 0.45, 32: 0.30, 16: 0.15}  # of peak throughput that tiles reach, by their shorter side
_FEW_STEPS, _PARTS = 8, 16  # fewest steps of a part; most parts of a product
_MANY = 4  # tiles per multiprocessor, from which a last, partial wave does not matter


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel on its first argument's device; every launch of this backend passes here, so it can be counted.

    Products and sums are not fused into one rounding, whatever a version of Triton does by default: results would
    change with it.
    """
    device = arguments[0].device
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):  # Triton launches on the current one
            kernel[grid](*arguments, **options, enable_fp_fusion=False)
    else:
        kernel[grid](*arguments, **options, enable_fp_fusion=False)


class Tile(NamedTuple):
    """What a program computes: rows and columns of the result, and how.

    A step takes two products of `inputs` each (one where `pair` is false): in a loop with one product, Triton 3.8 and
    3.9 keep each byte in a register of its own, and spill most of them on GPUs of compute capability 8.
    """

    rows: int
    columns: int
    inputs: int
    pair: bool
    warps: int
    stages: int

    @property
    def step(self) -> int:
        """Inputs per step."""
        return self.inputs * (1 + self.pair)


@cache
def tile_of(rows: int, outputs: int, inputs: int, device: torch.device) -> Tile:
    """A tile for a product [rows, inputs] x [inputs, outputs].

    Large ones read their inputs less often, small ones leave fewer multiprocessors idle at the end: the one with the
    shortest estimated time.
    """
    at_once = multiprocessors(device)

    def cost(tile: Tile) -> float:
        turns = -(-rows // tile.rows) * -(-outputs // tile.columns) / at_once
        whole = float(math.ceil(turns)) if turns < _MANY else turns
        return whole * tile.rows * tile.columns / _SHARES[min(tile.rows, tile.columns)]

    return min(tiles_for(outputs, inputs), key=cost)


def steps_of_part(programs: int, steps: int, device: torch.device) -> int:
    """How many of a product's steps a program takes: all, unless few programs with many steps pay to be split.

    Small maps of many channels: 90 steps one after the other, on a device that is mostly idle.
    """
    parts = min(2 * multiprocessors(device) // programs, steps // _FEW_STEPS, _PARTS)
    return -(-steps // parts) if parts > 2 else steps  # joining two would take as long as it saves


def tiles_for(outputs: int, inputs: int) -> list[Tile]:
    """The tiles that fit some outputs and inputs, the largest first; none needs more than 99 KB of shared memory."""
    columns = min(128, max(16, 1 << (outputs - 1).bit_length()))
    deep, pair = 64 if inputs % 128 == 0 else 32, inputs > 32
    return [
        Tile(128, columns, deep, pair, 8 if columns == 128 else 4, 3),
        Tile(128, min(64, columns), deep, pair, 4, 3),
        Tile(64, min(64, columns), deep, pair, 4, 3),
        Tile(32, min(64, columns), deep, pair, 4, 3),
    ]
