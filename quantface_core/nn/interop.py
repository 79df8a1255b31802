"""Interoperability with PEFT, diffusers and transformers: adapters, and calls refused because they lose data silently.

Those calls write or save a layer's `weight`, which a low-bit layer computes from integers at every read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from torch import nn

from ..errors import UsageError
from .qlayer import QuantLayer

_SAVING = ("diffusers", "transformers")  # PEFT's own `save_pretrained` writes the adapters alone, which is right


def adapter_modules(model: nn.Module) -> set[nn.Module]:
    """All modules in the adapters of PEFT's layers; not the layers that they adapt."""
    return {part for layer in _adapted(model) for adapter in _adapters(layer) for part in adapter.modules()}


def _adapted(model: nn.Module) -> Iterator[Any]:
    """PEFT's layers, known by what they have: PEFT itself may not be installed."""
    yield from (m for m in model.modules() if hasattr(m, "adapter_layer_names") and hasattr(m, "base_layer"))


def _adapters(layer: Any) -> list[nn.Module]:
    held = (getattr(layer, name, None) for name in layer.adapter_layer_names)
    return [adapter for adapter in held if isinstance(adapter, nn.Module)]


def plain_for_adapters(cls: type[nn.Module], *given: Any, **named: Any) -> nn.Module:
    """`__new__` of a low-bit convolution; a plain `nn.Conv2d` where the arguments are those of one.

    PEFT builds the two halves of an adapter by calling its base layer's class like that.
    """
    if given and isinstance(given[0], int):
        return nn.Conv2d(*given, **named)
    return object.__new__(cls)


def refuse_lossy_calls(model: nn.Module) -> None:
    """Make merging adapters into low-bit layers, fusing an attention's low-bit projections, and saving models that hold
    low-bit layers as if they were in full precision, raise UsageError, in place.
    """
    for layer in _adapted(model):
        if isinstance(layer.base_layer, QuantLayer):
            layer.merge = _refuse_merge
            if layer.merged:  # before it was quantized
                layer.unmerge = _refuse_unmerge
    for module in model.modules():
        fuses = hasattr(type(module), "fuse_projections") and not getattr(module, "fused_projections", False)
        if fuses and any(isinstance(part, QuantLayer) for part in module.children()):
            module.fuse_projections = _refuse_to_fuse  # type: ignore[assignment]
        save = getattr(type(module), "save_pretrained", None)
        known = str(getattr(save, "__module__", "")).partition(".")[0] in _SAVING
        if known and any(isinstance(part, QuantLayer) for part in module.modules()):
            module.save_pretrained = _refuse_to_save  # type: ignore[assignment]
            if hasattr(module, "push_to_hub"):  # it creates the repository before it saves
                module.push_to_hub = _refuse_to_push  # type: ignore[assignment]


def allow_saving(module: nn.Module) -> None:
    """Take back the refusal to save one module, in place: its folder says how its low-bit layers are stored."""
    for name in ("save_pretrained", "push_to_hub"):
        vars(module).pop(name, None)


# With the parameters that callers look for; functions of a module, so that a model can still be copied and pickled.
def _refuse_merge(safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
    raise UsageError("an adapter cannot be merged into a low-bit layer: fuse it before quantizing, or leave it beside")


def _refuse_unmerge() -> NoReturn:
    raise UsageError("an adapter cannot be unmerged from a low-bit layer: unfuse it before quantizing")


def _refuse_to_fuse(fuse: bool = True) -> NoReturn:
    raise UsageError(
        "fuse_qkv_projections would put low-bit projections back into full precision: call it before quantize"
    )


def _refuse_to_push(repo_id: str, *_: Any, **__: Any) -> NoReturn:
    raise UsageError("push_to_hub cannot write these low-bit layers: upload the file that save_quantized writes")


def _refuse_to_save(save_directory: Any, *_: Any, **__: Any) -> NoReturn:
    raise UsageError("save_pretrained cannot write these low-bit layers: use save_quantized and load_quantized")
