"""Give a restorer the activation outliers of a real diffusion model before every layer, with unchanged outputs.

A seeded share of a layer's input channels is multiplied by 20 to 50 in their producer, and the consumers' weights are
divided by the same factors, wherever only linear maps lie in between. Before convolutions an activation function does:
there the channels are multiplied right before the layer.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from quantface_core.nn.fold import multiply
from quantface_core.nn.replace import replace_by_name
from quantface_core.quant.fold_rules import fold_paths
from quantface_core.restorer import RestorerModel
from quantface_core.restorer.fold_rules import RULES

SHARE = 0.02  # of channels
LEAST, MOST = 20.0, 50.0


class Amplified(nn.Module):
    """A convolution [O, C, ...] whose input channels are multiplied by factors [C], with an unchanged output."""

    factors: Tensor

    def __init__(self, layer: nn.Conv2d, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors.view(-1, 1, 1))
        self.layer = layer
        divide(layer, factors)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.factors)


@torch.no_grad()
def stress(restorer: RestorerModel, seed: int = 0) -> RestorerModel:
    """A copy of a full-precision restorer whose activations have outliers; outputs change by float rounding only."""
    restorer = copy.deepcopy(restorer)
    generator = torch.Generator().manual_seed(seed)
    for path in fold_paths(restorer, RULES):
        consumers = [layer for layer in path.consumers if isinstance(layer, nn.Linear | nn.Conv2d)]
        factors = outliers(consumers[0].weight.shape[1], generator)
        multiply(path.producer, path.rows, factors)
        for layer in consumers:
            divide(layer, factors)
    convolutions = {
        name: Amplified(layer, outliers(layer.in_channels, generator))
        for name, layer in restorer.named_modules()
        if isinstance(layer, nn.Conv2d) and not any(word in name for word in restorer.edge_layers)
    }
    replace_by_name(restorer, convolutions)
    return restorer


def outliers(channels: int, generator: torch.Generator) -> Tensor:
    """Factors [C], ones except for the chosen channels."""
    factors = torch.ones(channels)
    chosen = torch.randperm(channels, generator=generator)[: max(1, round(SHARE * channels))]
    factors[chosen] = torch.empty(len(chosen)).uniform_(LEAST, MOST, generator=generator)
    return factors


def divide(layer: nn.Linear | nn.Conv2d, factors: Tensor) -> None:
    """Divide a layer's input columns by factors [C], in place."""
    layer.weight.div_(factors.view(1, -1, *[1] * (layer.weight.ndim - 2)))
