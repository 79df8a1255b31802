"""Standard normal noise of restorers that sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def seeded_noise(seeds: Sequence[int], shapes: Iterable[Sequence[int]]) -> list[Tensor]:
    """For every shape a tensor [len(seeds), *shape] float32, each image's drawn with its own seed, shape after shape.

    Drawn on the CPU, so that every device gets the same, and an image the same whatever its batch.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        torch.stack([torch.randn(tuple(shape), generator=g, dtype=torch.float32) for g in generators])
        for shape in shapes
    ]
