"""Averages of a network's weights over its training, which are better than the last ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's parameters, at first over fewer steps; `.module` has its weights.

    Call its `update_parameters(network)` after each step. Its state dict resumes it.
    """

    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, float((count + 1) / (count + 10))))

    return AveragedModel(network, multi_avg_fn=update)
