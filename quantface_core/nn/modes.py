"""Where a model is, and evaluation mode for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first tensor, which may be a buffer in a quantized model; the CPU if it has none.

    Empty tensors do not count: a host that moves others may leave them where they are.
    """
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            if tensor.numel():
                return tensor.device
    return torch.device("cpu")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager: within it, the model is in evaluation mode; afterwards every module is in its own mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Context manager: `evaluating`, and gradients are off: the same input gives the same output."""
    with evaluating(model), torch.no_grad():
        yield
