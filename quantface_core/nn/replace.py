"""Replace modules, wherever a model holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

_SHORTCUTS = {nn.TransformerEncoderLayer: "activation_relu_or_gelu", nn.TransformerEncoder: "use_nested_tensor"}
"""Flags of torch's fast paths, which use the weights of an encoder's linears without calling them; false = off."""
_ORIGINAL = "_quantface_shortcut"  # attribute of a module: the original value of its shortcut


def replace_modules(model: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> None:
    """Replace every child by `replacement(child)`, None = keep it; in place. A shared child is replaced everywhere."""
    made: dict[nn.Module, nn.Module | None] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # including a child held under two names
            if child is None:
                continue
            if child not in made:
                made[child] = replacement(child)
            chosen = made[child]
            if chosen is not None:
                parent.register_module(name, chosen)


def replace_by_name(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Replace the submodules of these names, wherever the model holds them, in place.

    Torch's encoders lose their fast path while one of their linears is not an `nn.Linear`, and regain it afterwards.
    Raises AttributeError for a name that the model does not have.
    """
    known = {model.get_submodule(name): module for name, module in modules.items()}
    replace_modules(model, known.get)
    for module in model.modules():
        for kind, shortcut in _SHORTCUTS.items():
            if isinstance(module, kind):
                _set_shortcut(module, shortcut)


def _set_shortcut(encoder: nn.Module, shortcut: str) -> None:
    if _has_other_linears(encoder):
        if not hasattr(encoder, _ORIGINAL):
            setattr(encoder, _ORIGINAL, getattr(encoder, shortcut))
        setattr(encoder, shortcut, False)
    elif hasattr(encoder, _ORIGINAL):
        setattr(encoder, shortcut, getattr(encoder, _ORIGINAL))
        delattr(encoder, _ORIGINAL)


def _has_other_linears(encoder: nn.Module) -> bool:
    layers = [module for module in encoder.modules() if isinstance(module, nn.TransformerEncoderLayer)]
    return not all(isinstance(linear, nn.Linear) for layer in layers for linear in (layer.linear1, layer.linear2))
