"""How the tests of distillation train the tiny restorer, and what they compare."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from quantface_core.metrics import psnr
from quantface_core.restorer import OneStepRestorer
from quantface_core.types import RestorerDistillConfig, TrainerConfig

TRAINER = TrainerConfig(steps=20, batch_size=2, learning_rate=2e-3, warmup=3, ema=0.8, validate_every=10, save_every=10)
SETTINGS = RestorerDistillConfig(TRAINER, rank=4, precision="float32")
SHORT = replace(SETTINGS, trainer=replace(TRAINER, steps=4, validate_every=2, save_every=2))


@torch.no_grad()
def likeness(model: OneStepRestorer, teacher: OneStepRestorer, images: Tensor) -> float:
    """PSNR in dB between two restorers' pictures."""
    return float(psnr(model(images) / 2 + 0.5, teacher(images) / 2 + 0.5).mean())


def stored(model: OneStepRestorer) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())
