"""What a low-bit layer computes with: all that is derived from its buffers, as one value."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..kernels.channel_transform import ChannelTransform


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer's kernel, and what else was derived from the buffers it was prepared with.

    One value, set when it is complete: a thread that finds it needs no lock.
    """

    buffers: tuple[Tensor | None, ...]
    transform: ChannelTransform  # balances the layer's input
    kernel: Any  # of a backend, with the layer's branch where it fuses it
    fuses: bool  # whether the kernel is a FusedConv2d or FusedLinear: looked up here, as checking a protocol is slow
    branches: dict[tuple[str, torch.dtype], Any] = field(default_factory=dict)  # the branch by form and dtype

    def is_of(self, buffers: Collection[Tensor | None]) -> bool:
        """Whether a layer's buffers are still those it was prepared with: the same tensors, in the same order."""
        return len(buffers) == len(self.buffers) and all(map(is_, self.buffers, buffers))
