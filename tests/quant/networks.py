"""A small convolutional network, and a configuration without a branch."""

from __future__ import annotations

import torch
from torch import nn

import quantface_core as qf

CONFIG = qf.QuantConfig(rank=0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 8)]
    return nn.Sequential(*layers).eval()
