"""Move channel scales and signs from low-bit layers to what makes their input (DESIGN.md section 3.1).

Where nothing but linear maps lie between, the product stays as it was, and balancing is a rotation alone: at every
call one pass over the activations less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels.mixer import Mixer, signs
from .qlayer import QuantLayer

_FARTHEST = 2.0**12  # from 1: numbers multiplied by more may not fit a file's float16


class Way(NamedTuple):
    """Channels from the layer or norm that makes them to the layers that alone read them, all linear between."""

    maker: nn.Module
    rows: slice  # which of the maker's outputs
    readers: Sequence[nn.Module]


def fold(way: Way) -> bool:
    """Give the readers' scales and signs to the maker, in place; False = they are not alike, or not of low bits."""
    low = [reader for reader in way.readers if isinstance(reader, QuantLayer)]
    if len(low) < len(way.readers):
        return False
    factors = _factors(low[0])
    far = factors.abs().log2().abs().amax() > torch.tensor(_FARTHEST).log2()
    if far or any(not torch.equal(_factors(reader), factors) for reader in low[1:]):
        return False
    multiply(way.maker, way.rows, factors)
    for reader in low:
        reader.balance_by(signs(reader.rotation).to(factors))  # which the rotation's own undo
    return True


def _factors(layer: QuantLayer) -> Tensor:
    """What a layer multiplies its channels by before it mixes them, [C] float32."""
    return Mixer(layer.channel_scale, layer.rotation).factors


@torch.no_grad()
def multiply(maker: nn.Module, rows: slice, factors: Tensor) -> None:
    """Multiply some outputs of a norm or layer by factors [rows], none of them zero."""
    if isinstance(maker, QuantLayer):
        maker.multiply_outputs(rows, factors)
        return
    for name, old in list(maker.named_parameters(recurse=False)):
        new = old.clone()  # old may be a tensor of inference mode, which is not changed outside of it
        new[rows] *= factors.view(-1, *[1] * (old.ndim - 1)).to(old)
        setattr(maker, name, nn.Parameter(new, old.requires_grad))
