"""The Hadamard matrices with which kernels rotate blocks of channels."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ..channel_transform import ChannelTransform
from ..hadamard import hadamard

_LARGEST = 256  # bytes of a row of the largest block's matrix that fits beside a tile


def rotates(transform: ChannelTransform, dtype: torch.dtype) -> bool:
    """Whether a transform's block is small enough for kernels to rotate it themselves, in a dtype."""
    return transform.rotation.block * dtype.itemsize <= _LARGEST


@cache
def block_matrix(block: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A block's Hadamard matrix, padded with zeros to a power of two of at least 16, as tensor cores need."""
    padded = max(16, 1 << (block - 1).bit_length())
    matrix = torch.zeros(padded, padded, dtype=torch.float64, device="cpu")
    matrix[:block, :block] = hadamard(block)
    return matrix.to(device, dtype)
