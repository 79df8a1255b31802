"""Train a small network: AdamW with warm-up and cosine decay, an average of its weights, resumable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from averaging import averaged
from torch import Tensor, nn

from quantface_core.io.atomic import atomic_path

_DECAY = 0.999  # of the averaged weights
_WARM = 100  # steps


class AveragedTrainer:
    """Trains a network by `loss(network, *batch)`; `average.module` has the averaged weights."""

    def __init__(self, network: nn.Module, loss: Callable[..., Tensor], rate: float, steps: int) -> None:
        self.network, self.rate, self.steps, self.step, self._loss = network, rate, steps, 0, loss
        self.average = averaged(network, _DECAY)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)

    def update(self, *batch: Tensor) -> float:
        """One step; returns its loss."""
        warm, decay = min(1.0, (self.step + 1) / _WARM), 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * (0.01 + 0.99 * decay)
        loss = self._loss(self.network, *batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def save_state(self, path: Path) -> None:
        parts: dict[str, Any] = {"network": self.network, "optimizer": self.optimizer, "average": self.average}
        with atomic_path(path) as temporary:
            torch.save({"step": self.step} | {name: part.state_dict() for name, part in parts.items()}, temporary)

    def load_state(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average.load_state_dict(saved["average"])
        self.step = saved["step"]
