"""Fold channel scales and signs of low-bit layers into the producers of their inputs (docs/method.md, section 2).

Where nothing but linear ops lie between, the result is unchanged, and the rotation is all that is left of balancing:
one pass over the activations fewer at every call.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels.balance import per_row
from ..kernels.channel_transform import ChannelTransform
from ..kernels.hadamard import rotation_signs
from .qlayer import QuantLayer

_FARTHEST = 2.0**12  # largest factor, or its inverse: values multiplied by more may not fit a file's float16


class FoldPath(NamedTuple):
    """Channels from their producer, a layer or norm, to their only consumers, with nothing but linear ops between."""

    producer: nn.Module
    rows: slice  # which of the producer's output channels
    consumers: Sequence[nn.Module]


def fold(path: FoldPath) -> bool:
    """Fold the consumers' scales and signs into the producer, in place.

    False, with nothing changed, where consumers are not all low-bit, their factors differ, or are too far from 1.
    """
    low = [consumer for consumer in path.consumers if isinstance(consumer, QuantLayer)]
    if len(low) < len(path.consumers):
        return False
    factors = _factors(low[0])
    far = factors.abs().log2().abs().amax() > math.log2(_FARTHEST)
    if far or any(not torch.equal(_factors(consumer), factors) for consumer in low[1:]):
        return False
    multiply(path.producer, path.rows, factors)
    for consumer in low:
        # The rotation's signs, which cancel its own.
        consumer.set_channel_scale(rotation_signs(consumer.rotation).to(factors))
    return True


def fold_ahead(paths: Iterable[FoldPath], built: Mapping[nn.Module, QuantLayer]) -> dict[nn.Module, nn.Module]:
    """Fold into low-bit layers before they are put in, and into copies of other modules: the model stays unchanged.

    `built` maps modules to the layers that will replace them; the result maps modules to their copies, whose tensors
    they are to take (`take_tensors`).
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
    """Set every module's parameters and buffers to those of its copy, in place."""
    for module, made in copies.items():
        for name, tensor in (*made.named_parameters(recurse=False), *made.named_buffers(recurse=False)):
            setattr(module, name, tensor)


def _copy(module: nn.Module) -> nn.Module:
    """A shallow copy that shares the module's parameters and buffers until its own are set."""
    made = copy.copy(module)
    made._parameters, made._buffers = dict(module._parameters), dict(module._buffers)
    return made


def _factors(layer: QuantLayer) -> Tensor:
    """What a layer multiplies its input channels by before it mixes them (scales times signs), [C] float32."""
    return ChannelTransform(layer.channel_scale, layer.rotation).factors


@torch.no_grad()
def multiply(producer: nn.Module, rows: slice, factors: Tensor) -> None:
    """Multiply some output channels of a norm or layer by factors [rows], none of them zero, in place."""
    if isinstance(producer, QuantLayer):
        producer.multiply_outputs(rows, factors)
        return
    for name, old in list(producer.named_parameters(recurse=False)):
        new = old.clone()  # old may be an inference tensor, which cannot be changed outside inference mode
        new[rows] *= per_row(factors, old).to(old)
        setattr(producer, name, nn.Parameter(new, old.requires_grad))
