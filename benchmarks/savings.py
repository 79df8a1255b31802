"""Count what low bits save, as in the paper: parameters and operations count by their bits over 32.

A low-bit layer's weight counts with its bits, its products with the wider of weight and activation bits; branches,
biases and everything left in floating point count 16 bits in a checkpoint and 32 in operations, branches' products 16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from quantface_core import OneStepRestorer, RestorerConfig


@dataclass(frozen=True)
class Cost:
    """One layer of the full-precision network."""

    shape: tuple[int, ...]  # of the weight
    positions: int  # of the output, per image

    @property
    def weights(self) -> int:
        return math.prod(self.shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.weights * self.positions


@dataclass(frozen=True)
class Costs:
    """A network's linears and convolutions, and its totals."""

    layers: Mapping[str, Cost]
    parameters: int  # all
    macs: int  # all, per image, including attention's products


def count(config: RestorerConfig) -> Costs:
    """The costs of a configuration, counted on the meta device."""
    with torch.device("meta"):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
        face = torch.zeros(1, 3, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, layer_costs(restorer) as layers:
        latent = restorer.encode(face)
        prompt = restorer.embedder.prompt(restorer.embedder.positions(face))
        restorer.decode(restorer.predict(latent, prompt))
    return Costs(layers, sum(p.numel() for p in restorer.parameters()), counter.get_total_flops() // 2)


@contextmanager
def layer_costs(model: nn.Module) -> Iterator[dict[str, Cost]]:
    """Context manager: the costs of linears and convolutions by name, filled as the model runs on one image."""
    costs: dict[str, Cost] = {}

    def heard(layer: nn.Linear | nn.Conv2d, name: str, output: Tensor) -> None:
        shape = tuple(layer.weight.shape)
        costs[name] = Cost(shape, output.numel() // shape[0])

    hooks = [
        module.register_forward_hook(lambda layer, _, output, name=name: heard(layer, name, output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    yield costs
    for hook in hooks:
        hook.remove()


def savings(path: Path, costs: Costs) -> tuple[float, float, float]:
    """A checkpoint's savings relative to float32, 0 to 1: parameters, layers' operations, all operations."""
    with safe_open(path, framework="pt") as file:
        formats = json.loads((file.metadata() or {}).get("layers", "{}"))
    parameters, saved = 16 * costs.parameters, 0
    for name, form in formats.items():
        cost = costs.layers[name]
        branch = form["rank"] * (math.prod(cost.shape[1:]) + cost.shape[0])
        parameters += (form["weight_bits"] - 16) * cost.weights + form.get("branch_bits", 16) * branch
        bits = max(form["weight_bits"], form["activation_bits"])
        saved += (32 - bits) * cost.macs - 16 * branch * cost.positions
    layers = sum(cost.macs for cost in costs.layers.values())
    return 1 - parameters / (32 * costs.parameters), saved / (32 * layers), saved / (32 * costs.macs)
