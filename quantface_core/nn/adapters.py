"""PEFT's low-rank adapters beside the products of trainable layers: added, started, and read back as branches."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import QuantFaceError
from ..requirements import install_command
from ..runtime.random_state import seeded
from .qlayer import QuantLayer

try:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer
except ModuleNotFoundError as missing:
    if missing.name != "peft":  # it is there, and lacks something itself
        raise
    raise QuantFaceError(f"training needs PEFT: {install_command('peft')}") from missing

QUANTIZATION, DISTILLATION = "quantization", "distillation"
"""Names of the adapters: one starts as the branch that the layer was quantized with, the other at zero."""


def add_adapters(model: nn.Module, first: Mapping[str, int], second: Mapping[str, int], seed: int) -> None:
    """Add adapters to the products of trainable layers, in place; `first` and `second`: their ranks by layer name."""
    # PEFT sees these layers alone: it matches names by their ends, and the model may have other PEFT adapters already.
    holder = nn.ModuleList([model.get_submodule(name) for name in first])
    keys = {name: f"{index}.product" for index, name in enumerate(first)}
    with _draws_of(seed):
        inject_adapter_in_model(_config({keys[name]: rank for name, rank in first.items()}), holder, QUANTIZATION)
        if second:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two are intended
                ranks = {keys[name]: rank for name, rank in second.items()}
                inject_adapter_in_model(_config(ranks), holder, DISTILLATION)


@contextmanager
def _draws_of(seed: int) -> Iterator[None]:
    """Within this context, PEFT's random draws depend on this seed alone, in float32 whatever torch's default dtype."""
    default = torch.get_default_dtype()
    with seeded(seed):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def _config(ranks: dict[str, int]) -> LoraConfig:
    """A LoRA configuration for exactly these layers, with a scaling of 1."""
    first = next(iter(ranks.values()))
    # Older PEFT puts ".*\." before a pattern, newer an optional group: what never matches takes the former.
    pattern = {f"(?!)|^{re.escape(name)}$": rank for name, rank in ranks.items() if rank != first}
    return LoraConfig(
        r=first,
        lora_alpha=first,
        rank_pattern=pattern,
        alpha_pattern=pattern,
        target_modules=list(ranks),
        init_lora_weights="gaussian",
    )


def start_adapters(product: Any, layer: QuantLayer, adapters: list[str]) -> None:
    """Activate adapters of a product, in place; the quantization adapter starts as the layer's branch."""
    down, up = layer.stored_branch()
    started = product.lora_B[QUANTIZATION].weight
    product.lora_A[QUANTIZATION].weight.data.copy_(down)
    started.data.copy_(up.view_as(started))
    product.set_adapter(adapters)


def branches_of(product: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(down, up) of the product's adapters in the order they were added, without those whose B is still zero."""
    if not isinstance(product, LoraLayer):
        return []
    pairs: Any = zip(product.lora_A.values(), product.lora_B.values(), strict=True)
    return [(a.weight.detach(), b.weight.detach().flatten(1)) for a, b in pairs if b.weight.any()]
