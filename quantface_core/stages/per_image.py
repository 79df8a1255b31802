"""What a teacher makes of single images, kept for the steps of a training that draw the same ones again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class PerImage:
    """Tensors for images, kept in main memory: each image's are made when first asked for, and by itself.

    So a run starts at once, is over sooner where it draws only some of the images, and results do not depend on how
    they are batched.
    """

    def __init__(self, compute: Callable[[int], Iterable[Tensor]]) -> None:
        """`compute(index)` returns the tensors [1, ...] for one image."""
        self._compute = compute
        self._made: dict[int, list[Tensor]] = {}

    def __call__(self, indices: Tensor) -> list[Tensor]:
        """The tensors for images [B], as batches [B, ...]."""
        for index in indices.tolist():
            if index not in self._made:
                self._made[index] = [tensor.cpu() for tensor in self._compute(index)]
        return [torch.cat(parts) for parts in zip(*(self._made[index] for index in indices.tolist()), strict=True)]
