"""A restorer with the activation outliers of a real diffusion UNet, and exactly the same pictures.

A seeded share of channels is multiplied by 20 to 50 where they are made, and the weights that read them are
divided by the same, wherever nothing but linear maps lie between.
"""

from __future__ import annotations

import copy

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from quantface_core.restorer import OneStepRestorer
from quantface_core.restorer import embedder as own
from quantface_core.restorer.transformer import Transformer

SHARE = 0.02  # of channels
LEAST, MOST = 20.0, 50.0


@torch.no_grad()
def stress(restorer: OneStepRestorer, seed: int = 0) -> OneStepRestorer:
    """A copy of a full-precision restorer whose activations have outliers; its picture stays (float rounding)."""
    restorer = copy.deepcopy(restorer)
    generator = torch.Generator().manual_seed(seed)
    for module in restorer.modules():
        for maker, rows, readers in _places(module):
            channels = rows.stop - rows.start
            chosen = torch.randperm(channels, generator=generator)[: max(1, round(SHARE * channels))]
            factors = torch.ones(channels)
            factors[chosen] = torch.empty(len(chosen)).uniform_(LEAST, MOST, generator=generator)
            _multiply(maker, rows, factors)
            for reader in readers:
                reader.weight.div_(factors.view(1, -1, *[1] * (reader.weight.ndim - 2)))
    return restorer


def _multiply(maker: nn.Module, rows: slice, factors: Tensor) -> None:
    weight = maker.get_parameter("weight")
    weight[rows] *= factors.view(-1, *[1] * (weight.ndim - 1))
    if maker.bias is not None:
        maker.get_parameter("bias")[rows] *= factors


def _places(module: nn.Module) -> list[tuple[nn.Module, slice, list[nn.Module]]]:
    """(layer that makes channels, which of its outputs, layers that alone read them)."""
    if isinstance(module, BasicTransformerBlock):
        first, second = module.attn1, module.attn2
        up, down = module.ff.net[0].proj, module.ff.net[2]
        return [
            (module.norm1, _all(module.norm1), [first.to_q, first.to_k, first.to_v]),
            (module.norm2, _all(module.norm2), [second.to_q]),
            (module.norm3, _all(module.norm3), [up]),
            (up, slice(0, down.weight.shape[1]), [down]),  # GEGLU's linear half; the gate is not linear
        ]
    if isinstance(module, Transformer):
        return [(module.norm, _all(module.norm), [module.proj_in])]
    if isinstance(module, Attention):
        places = [(module.to_v, _all(module.to_v), [module.to_out[0]])]
        if module.group_norm is not None:
            places.append((module.group_norm, _all(module.group_norm), [module.to_q, module.to_k, module.to_v]))
        return places
    if isinstance(module, own.Attention):
        return [
            (module.norm1, _all(module.norm1), [module.q, module.k, module.v]),
            (module.v, _all(module.v), [module.proj_out]),
        ]
    return []


def _all(layer: nn.Module) -> slice:
    return slice(0, layer.get_parameter("weight").shape[0])
