"""The zero padding of a convolution as numbers, also where PyTorch is given a word for it."""

from __future__ import annotations

from torch import nn


def zero_padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    """Rows and columns of zeros on either side of what an undilated convolution reads.

    None if it pads by other values, or unevenly, as "same" does for even kernels.
    """
    if layer.padding_mode != "zeros":
        return None
    if not isinstance(layer.padding, str):
        return (layer.padding[0], layer.padding[1])
    if layer.padding == "valid":
        return (0, 0)
    tall, wide = layer.kernel_size
    return (tall // 2, wide // 2) if tall % 2 and wide % 2 else None
