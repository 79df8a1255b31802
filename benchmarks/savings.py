"""What low bits save, as the paper counts it: parameters and operations weigh their bits over 32.

A low-bit layer's weight counts its bits, its products the wider of weight and activation bits; branches, biases
and whatever is left in float count 16 bits in a checkpoint and 32 in operations, branches' products 16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from quantface_core import OneStepRestorer, RestorerConfig


@dataclass(frozen=True)
class Cost:
    """One layer of the full-precision network."""

    shape: tuple[int, ...]  # of the weight
    positions: int  # of the output, an image


@dataclass(frozen=True)
class Costs:
    """A network's linears and convolutions, and all that is left."""

    layers: Mapping[str, Cost]
    parameters: int  # all
    macs: int  # all, an image, attention's products with them


def count(config: RestorerConfig) -> Costs:
    """Count on tensors without memory."""
    with torch.device("meta"):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
        face = torch.zeros(1, 3, config.image_size, config.image_size)
    layers: dict[str, Cost] = {}

    def heard(name: str) -> Any:
        def hook(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
            shape = tuple(layer.weight.shape)
            layers[name] = Cost(shape, output.numel() // shape[0])

        return hook

    for name, module in restorer.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(heard(name))
    with FlopCounterMode(display=False) as counter:
        latent = restorer.encode(face)
        prompt = restorer.embedder.prompt(restorer.embedder.positions(face))
        restorer.decode(restorer.predict(latent, prompt))
    return Costs(layers, sum(p.numel() for p in restorer.parameters()), counter.get_total_flops() // 2)


def savings(path: Path, costs: Costs) -> tuple[float, float, float]:
    """What a checkpoint saves against float32, 0 to 1: parameters, layers' operations, all operations."""
    with safe_open(path, framework="pt") as file:
        formats = json.loads((file.metadata() or {}).get("layers", "{}"))
    parameters, saved = 16 * costs.parameters, 0
    for name, form in formats.items():
        shape, positions = costs.layers[name].shape, costs.layers[name].positions
        weights, taps = torch.Size(shape).numel(), torch.Size(shape[1:]).numel()
        branch = form["rank"] * (taps + shape[0])
        parameters += (form["weight_bits"] - 16) * weights + form.get("branch_bits", 16) * branch
        bits = max(form["weight_bits"], form["activation_bits"])
        saved += positions * ((32 - bits) * weights - 16 * branch)
    layers = sum(torch.Size(cost.shape).numel() * cost.positions for cost in costs.layers.values())
    return 1 - parameters / (32 * costs.parameters), saved / (32 * layers), saved / (32 * costs.macs)
