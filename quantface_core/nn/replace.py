"""Put modules in the places of others, wherever a model holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

_SHORTCUTS = {nn.TransformerEncoderLayer: "activation_relu_or_gelu", nn.TransformerEncoder: "use_nested_tensor"}
"""What has torch compute from the weights of an encoder's layers, past the layers themselves; false = it does not."""
_KEPT = "_quantface_shortcut"  # on a module: its shortcut's own value


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
    """Put modules in the places that have these names, and wherever else the model holds what stood there.

    Torch's encoders call their linears while these are no `nn.Linear`, and go back to their shortcuts afterwards.
    """
    known = {model.get_submodule(name): module for name, module in modules.items()}
    replace_modules(model, known.get)
    for module in model.modules():
        for kind, shortcut in _SHORTCUTS.items():
            if isinstance(module, kind):
                _set_shortcut(module, shortcut)


def _set_shortcut(encoder: nn.Module, shortcut: str) -> None:
    if _has_other_linears(encoder):
        if not hasattr(encoder, _KEPT):
            setattr(encoder, _KEPT, getattr(encoder, shortcut))
        setattr(encoder, shortcut, False)
    elif hasattr(encoder, _KEPT):
        setattr(encoder, shortcut, getattr(encoder, _KEPT))
        delattr(encoder, _KEPT)


def _has_other_linears(encoder: nn.Module) -> bool:
    layers = [module for module in encoder.modules() if isinstance(module, nn.TransformerEncoderLayer)]
    return not all(isinstance(linear, nn.Linear) for layer in layers for linear in (layer.linear1, layer.linear2))
