"""A restorer with the activation outliers of a real diffusion UNet, and exactly the same pictures.

A seeded share of channels is multiplied by 20 to 50 where they are made, and the weights that read them are
divided by the same, wherever nothing but linear maps lie between.
"""

from __future__ import annotations

import copy

import torch

from quantface_core.nn.fold import multiply
from quantface_core.quant.fold_rules import fold_paths
from quantface_core.restorer import OneStepRestorer
from quantface_core.restorer.fold_rules import RULES

SHARE = 0.02  # of channels
LEAST, MOST = 20.0, 50.0


@torch.no_grad()
def stress(restorer: OneStepRestorer, seed: int = 0) -> OneStepRestorer:
    """A copy of a full-precision restorer whose activations have outliers; its picture stays (float rounding)."""
    restorer = copy.deepcopy(restorer)
    generator = torch.Generator().manual_seed(seed)
    for path in fold_paths(restorer, RULES):
        channels = path.consumers[0].weight.shape[1]
        chosen = torch.randperm(channels, generator=generator)[: max(1, round(SHARE * channels))]
        factors = torch.ones(channels)
        factors[chosen] = torch.empty(len(chosen)).uniform_(LEAST, MOST, generator=generator)
        multiply(path.producer, path.rows, factors)
        for reader in path.consumers:
            reader.weight.div_(factors.view(1, -1, *[1] * (reader.weight.ndim - 2)))
    return restorer
