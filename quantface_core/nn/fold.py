"""Move channel scales and signs from low-bit layers to what makes their input (DESIGN.md section 3.1).

Where nothing but linear maps lie between, the product stays as it was, and balancing is a rotation alone: at every
call one pass over the activations less.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels.channel_transform import ChannelTransform
from ..kernels.hadamard import rotation_signs
from .qlayer import QuantLayer

_FARTHEST = 2.0**12  # from 1: numbers multiplied by more may not fit a file's float16


class FoldPath(NamedTuple):
    """Channels from the layer or norm that makes them to the layers that alone read them, all linear between."""

    producer: nn.Module
    rows: slice  # which of the producer's outputs
    consumers: Sequence[nn.Module]


def fold(path: FoldPath) -> bool:
    """Give the consumers' scales and signs to the producer, in place; False = they are not alike, or not low-bit."""
    low = [consumer for consumer in path.consumers if isinstance(consumer, QuantLayer)]
    if len(low) < len(path.consumers):
        return False
    factors = _factors(low[0])
    far = factors.abs().log2().abs().amax() > torch.tensor(_FARTHEST).log2()
    if far or any(not torch.equal(_factors(consumer), factors) for consumer in low[1:]):
        return False
    multiply(path.producer, path.rows, factors)
    for consumer in low:
        consumer.balance_by(rotation_signs(consumer.rotation).to(factors))  # which the rotation's own undo
    return True


def fold_ahead(paths: Iterable[FoldPath], built: Mapping[nn.Module, QuantLayer]) -> dict[nn.Module, nn.Module]:
    """Fold into the low-bit layers that will take places, and into copies of other modules: the model stays as it is.

    `built` and the result say what takes over from what: whole layers, and a module's tensors.
    """
    copies: dict[nn.Module, nn.Module] = {}

    def ahead(module: nn.Module) -> nn.Module:
        return built.get(module) or copies.get(module) or _copy(module)

    for path in paths:
        made = FoldPath(ahead(path.producer), path.rows, [ahead(consumer) for consumer in path.consumers])
        if fold(made):
            modules = zip((path.producer, *path.consumers), (made.producer, *made.consumers), strict=True)
            copies.update((module, copied) for module, copied in modules if module not in built)
    return copies


def take_tensors(copies: Mapping[nn.Module, nn.Module]) -> None:
    """Give every module its copy's own parameters and buffers."""
    for module, made in copies.items():
        for name, tensor in (*made.named_parameters(recurse=False), *made.named_buffers(recurse=False)):
            setattr(module, name, tensor)


def _copy(module: nn.Module) -> nn.Module:
    """A module that shares the other's parameters and buffers until it is given its own."""
    made = copy.copy(module)
    made._parameters, made._buffers = dict(module._parameters), dict(module._buffers)
    return made


def _factors(layer: QuantLayer) -> Tensor:
    """What a layer multiplies its channels by before it mixes them, [C] float32."""
    return ChannelTransform(layer.channel_scale, layer.rotation).factors


@torch.no_grad()
def multiply(producer: nn.Module, rows: slice, factors: Tensor) -> None:
    """Multiply some outputs of a norm or layer by factors [rows], none of them zero."""
    if isinstance(producer, QuantLayer):
        producer.multiply_outputs(rows, factors)
        return
    for name, old in list(producer.named_parameters(recurse=False)):
        new = old.clone()  # old may be a tensor of inference mode, which is not changed outside of it
        new[rows] *= factors.view(-1, *[1] * (old.ndim - 1)).to(old)
        setattr(producer, name, nn.Parameter(new, old.requires_grad))
