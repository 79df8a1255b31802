"""The precision that a training run computes in: autocast, and what it needs of a loss and of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..types import DistillConfig

_NORMS = (nn.GroupNorm, nn.LayerNorm, _NormBase)  # the last: torch's batch and instance norms
_OTHER = {"float16": torch.bfloat16, "bfloat16": torch.float16}  # by the precision of autocast


def autocast(device: torch.device, config: DistillConfig) -> AbstractContextManager[Any]:
    """Autocast at the config's precision; none for float32."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, config.precision))


def scales_loss(model: nn.Module, config: DistillConfig) -> bool:
    """Whether gradients need a scaled loss, as they do where they pass through float16, whose range ends above most."""
    return config.precision == "float16" or any(p.dtype == torch.float16 for p in model.parameters())


@contextmanager
def mixing_norms(model: nn.Module, config: DistillConfig) -> Iterator[None]:
    """Within the block, torch's norms on the CPU hold float32 where they held the half precision that autocast is not.

    They take maps in either with weights in float32, but not with weights in the other one: a float16 model, which
    autocast gives maps in bfloat16, would fail.
    """
    norms = (module for module in model.modules() if isinstance(module, _NORMS))
    held = (t for norm in norms for t in (*norm.parameters(recurse=False), *norm.buffers(recurse=False)))
    other = _OTHER.get(config.precision)
    halves = [tensor for tensor in held if tensor.dtype == other and tensor.device.type == "cpu"]
    for tensor in halves:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor in halves:
            tensor.data = tensor.data.to(other)
