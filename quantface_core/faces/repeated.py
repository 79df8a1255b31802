"""A small picture that was enlarged by repeating its pixels (nearest neighbour), enlarged smoothly instead."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .align import warp

_FACTORS = (1.1, 16.5)  # by which pictures may have been enlarged
_LEAST = 6  # blocks, and repeated pixels, that must show it
_LINES = 256  # about as many of a region's rows and columns are looked at
_STEPS = 0.45  # of the steps at the blocks' edges: steps within blocks are smaller, also after compression
_FINER = 16  # frequencies looked at per wave over all the lines, and then between them
_LOCAL = 33  # pixels, over which steps are compared
_MOVES = np.linspace(-1, 1, 17), np.linspace(-1 / 8, 1 / 8, 17)  # pixels, of blocks to where they fit best
_SAME = 0.03  # ratios of steps that differ by less are alike
_PEAK = 0.7  # of the highest one: edges at whole distances have overtones as strong


class _Blocks(NamedTuple):
    """Along one axis pixel x belongs to block floor((x + offset) / factor)."""

    factor: float
    offset: float  # 0 to factor

    def of(self, pixels: int) -> NDArray[np.int64]:
        """The block of each of so many pixels, counted from the first's, [pixels]."""
        blocks = np.floor((np.arange(pixels) + self.offset) / self.factor).astype(np.int64)
        return blocks - blocks[0]


def smoothly_enlarged(region: Pixels) -> Pixels | None:
    """A region [h, w, 3] of a picture whose pixels were repeated, enlarged by cubic interpolation from those pixels.

    The factor need not be whole, nor the same in both directions. None if pixels were not repeated in both.
    """
    across = _find(region[:: 1 + len(region) // _LINES])
    down = _find(region[:, :: 1 + region.shape[1] // _LINES].swapaxes(0, 1)) if across else None
    if across is None or down is None:
        return None
    small: NDArray[Any] = region
    to_region = np.zeros((2, 3))
    for axis, (xy, blocks) in enumerate(((1, down), (0, across))):
        small = _averaged(small, blocks.of(region.shape[axis]), axis)
        to_region[xy, [xy, 2]] = blocks.factor, blocks.factor / 2 - blocks.offset  # centres, from block to block
    width, height = region.shape[1::-1]
    smooth = warp(np.rint(small).astype(region.dtype), to_region, width, height, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(smooth)


def _averaged(pixels: NDArray[Any], block_of: NDArray[np.int64], axis: int) -> NDArray[np.float32]:
    """The mean of each block along an axis of pixels [h, w, 3]."""
    first = np.flatnonzero(np.diff(block_of, prepend=-1))
    counts = np.diff(first, append=len(block_of)).astype(np.float32)
    sums = np.add.reduceat(pixels, first, axis, np.float32)
    return np.asarray(sums / np.expand_dims(counts, (1, 2) if axis == 0 else (0, 2)), np.float32)


def _find(lines: Pixels) -> _Blocks | None:
    """The blocks that the pixels of lines [n, w, 3] were repeated in; None if they were not."""
    gray = cv2.cvtColor(np.ascontiguousarray(lines), cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(gray, axis=1)).mean(0)
    if len(steps) < 2 * _LEAST or not steps.any():
        return None
    edges = steps / (
        steps + cv2.blur(steps[None], (_LOCAL, 1))[0] + np.float32(1e-6)
    )  # a picture's own edges matter less
    if not (frequency := _frequency(edges)):
        return None
    # Edges at distances below 2 look like missing edges at distances above it.
    factors = [_whole(factor, len(steps)) for factor in (1 / frequency, 1 / (1 - frequency))]
    found = [_placed(steps, edges, factor) for factor in factors if _FACTORS[0] <= factor <= _FACTORS[1]]
    if not found:
        return None
    ratio, blocks = found[0] if found[0][0] <= found[-1][0] + _SAME else found[-1]
    return blocks if ratio < _STEPS else None


def _frequency(edges: NDArray[np.float32]) -> float:
    """The lowest frequency of edges [n], in waves per pixel, up to 0.5; 0 if there is none."""
    edges, size = edges - edges.mean(), 1 << (_FINER * len(edges)).bit_length()
    waves = np.abs(np.fft.rfft(edges, size))
    waves[: int(size * min(1 / _FACTORS[1], 1 - 1 / _FACTORS[0]))] = 0
    around = np.pad(waves, 1)
    peaks = (waves >= np.maximum(around[:-2], around[2:])) & (waves >= _PEAK * waves.max()) & (around[:-2] > 0)
    if not peaks.any():
        return 0.0
    near = (np.flatnonzero(peaks)[0] + np.linspace(-1, 1, _FINER + 1)) / size
    return float(near[np.argmax([abs(_wave(edges, frequency)) for frequency in near])])


def _wave(edges: NDArray[np.float32], frequency: float) -> complex:
    """The wave of a frequency, in waves per pixel, in edges [n]."""
    return complex((edges * np.exp(-2j * np.pi * frequency * np.arange(len(edges)))).sum())


def _whole(factor: float, length: int) -> float:
    """A factor, a whole one if it is off by less than a block over a length."""
    return float(round(factor)) if abs(factor - round(factor)) * length < factor else factor


def _placed(steps: NDArray[np.float32], edges: NDArray[np.float32], factor: float) -> tuple[float, _Blocks]:
    """Blocks of a size where they fit the steps [n] best, and how well they do: see `_ratio`."""
    middle = factor * float(np.angle(_wave(edges, 1 / factor))) / (2 * np.pi)
    for moves in _MOVES:
        tried = [_Blocks(factor, float((middle + move) % factor)) for move in moves]
        ratios = [_ratio(steps, blocks) for blocks in tried]
        best = np.flatnonzero(np.array(ratios) == min(ratios))
        middle = tried[best[len(best) // 2]].offset  # of places that give the same blocks, the middle one
        if min(ratios) > 2 * _STEPS:  # nowhere near
            break
    return min(ratios), _Blocks(factor, middle)


def _ratio(steps: NDArray[np.float32], blocks: _Blocks) -> float:
    """The steps within blocks, at the place in them where these are largest, relative to those at their edges."""
    block_of = blocks.of(len(steps) + 1)
    edges = np.diff(block_of) > 0
    if min(edges.sum(), (~edges).sum()) < _LEAST or not (edge := float(np.median(steps[edges]))):
        return 1.0
    first = np.flatnonzero(np.diff(block_of, prepend=-1))
    place = (np.arange(len(block_of)) - first[block_of])[:-1][~edges]
    counts = np.bincount(place)
    means = np.bincount(place, steps[~edges]) / np.maximum(counts, 1)
    return float(means[counts >= min(_LEAST, int(counts.max()))].max()) / edge
