"""Put modules in the places of others, wherever a model holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn


def replace_modules(model: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> None:
    """Ask for every child what takes its place, None = it stays; in place. A child held twice is replaced twice."""
    made: dict[nn.Module, nn.Module | None] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # the same child under two names included
            if child is None:
                continue
            if child not in made:
                made[child] = replacement(child)
            chosen = made[child]
            if chosen is not None:
                parent.register_module(name, chosen)


def replace_by_name(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Put modules in the places that have these names, and wherever else the model holds what stood there."""
    known = {model.get_submodule(name): module for name, module in modules.items()}
    replace_modules(model, known.get)
