"""Standard normal noise for restorers that sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def seeded_noise(seeds: Sequence[int], shapes: Iterable[Sequence[int]]) -> list[Tensor]:
    """For every shape a tensor [len(seeds), *shape] float32; each image's noise is drawn from its own seed.

    An image's generator draws the shapes one after the other. On the CPU, so that noise is the same on every device;
    per image, so that it does not depend on the batch.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        torch.stack([torch.randn(tuple(shape), generator=g, dtype=torch.float32, device="cpu") for g in generators])
        for shape in shapes
    ]
