"""Find the layers that can be quantized, and replace them by low-bit ones, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..errors import ConfigError, UsageError
from ..kernels.backend import Backend
from ..types import LayerFormat
from .interop import adapter_modules, refuse_lossy_calls
from .marks import FusesUpsample
from .qconv2d import QuantConv2d
from .qlayer import QuantLayer
from .qlinear import QuantLinear
from .qpointwise import QuantPointwiseConv2d
from .replace import replace_by_name
from .zero_padding import zero_padding

Layer = nn.Linear | nn.Conv2d
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KNOWN = (nn.Linear, *_CONVOLUTIONS)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NOTABLE = 0.1  # share of a model's parameters that modules hold themselves, from which on they are named
# Hooks from these modules do not change what a layer computes: the library's observe, torch's derive the weight.
_KNOWN_HOOKS = (__name__.rpartition("nn.")[0], "torch.nn.utils.")


def quantizable(model: nn.Module) -> dict[str, Layer]:
    """Linears and ungrouped, undilated, zero-padded 2D convolutions by name, in the model's order.

    Not the model itself, which has no parent to replace it in, nor layers with a forward or foreign hooks of their own,
    nor PEFT's adapters; the layers that those adapt are.
    """
    staying = never_quantized(model)
    return {name: layer for name, layer in _layers(model).items() if name not in staying}


def never_quantized(model: nn.Module) -> dict[str, str]:
    """The other linears and convolutions by name, and what they are, such as "a grouped convolution".

    Also embeddings, and modules that compute with matrices of their own, such as a mixture's experts, where all these
    are a notable share.
    """
    layers, adapters = _layers(model), adapter_modules(model)
    described = {n: "a PEFT adapter" if layer in adapters else _obstacle(layer) for n, layer in layers.items()}
    return {name: what for name, what in described.items() if what} | _holders(model, {*layers.values(), *adapters})


def _holders(model: nn.Module, others: set[nn.Module]) -> dict[str, str]:
    """Modules that hold matrices themselves, apart from `others` and what is within; see above."""
    within = {part for module in others for part in module.modules()}
    held: dict[str, str] = {}
    share = 0
    for name, module in _modules(model):
        own = sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)
        if own and not isinstance(module, _KNOWN) and module not in within:
            is_table, kind = isinstance(module, _EMBEDDINGS), type(module).__name__
            held[name or "the model"] = "an embedding" if is_table else f"{kind}, with matrices of its own"
            share += own
    return held if share > _NOTABLE * sum(p.numel() for p in model.parameters()) else {}


def is_patched(module: nn.Module) -> bool:
    """Whether calling a module does more than its class says: its forward is replaced, or it has a foreign hook."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    known = (str(getattr(hook, "__module__", "")).startswith(_KNOWN_HOOKS) for hook in hooks)
    return "forward" in vars(module) or not all(known)


def _layers(model: nn.Module) -> dict[str, Any]:
    return {n: module for n, module in _modules(model) if n and isinstance(module, (nn.Linear, *_CONVOLUTIONS))}


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules of a model by name. Raises UsageError for what is not a module."""
    check_module(model)
    return model.named_modules()


def check_module(model: Any) -> None:
    """Raise UsageError for what is not a module, such as a whole pipeline."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"a model is an nn.Module, such as a pipeline's unet, got a {type(model).__name__}")


def _obstacle(layer: Any) -> str:
    """What a layer is that keeps it in full precision, as a noun phrase; empty = it can be quantized."""
    if type(layer).forward not in (nn.Linear.forward, nn.Conv2d.forward):
        return f"a {type(layer).__name__}"
    if is_patched(layer):
        what = "a replaced forward" if "forward" in vars(layer) else "hooks"
        return f"a layer with {what} (of offloading or casting? remove it first)"
    if not all(parameter.numel() for parameter in layer.parameters()):
        return "a layer without inputs or outputs"
    if any(parameter.is_complex() for parameter in layer.parameters()):
        return "a layer of complex numbers"
    wrapping = [p for p in layer.parameters() if hasattr(p, "__tensor_flatten__")]  # such as torchao's, and DTensor
    if wrapping:
        return f"a layer of {type(wrapping[0]).__name__} (quantized or distributed already?)"
    if isinstance(layer, nn.Linear):
        return ""
    if layer.groups > 1:
        return "a grouped convolution"
    if layer.dilation != (1, 1):
        return "a dilated convolution"
    if zero_padding(layer) is None:
        padding = layer.padding if layer.padding_mode == "zeros" else layer.padding_mode
        return f"a convolution with padding {padding!r}"
    return ""


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is a 1x1 convolution with stride 1 and no padding: a linear over pixels."""
    if not isinstance(layer, nn.Conv2d):
        return False
    return (*layer.kernel_size, *layer.stride) == (1, 1, 1, 1) and zero_padding(layer) == (0, 0)


def quant_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """The low-bit layers of a model by name."""
    return {name: module for name, module in _modules(model) if isinstance(module, QuantLayer)}


def empty_like(layer: Layer, fmt: LayerFormat) -> QuantLayer:
    """A low-bit layer of the same shape and dtype, with its integers not set yet."""
    built = _of_shape(layer, fmt)
    built.follow_dtype(layer.weight.dtype)
    return built


def _of_shape(layer: Layer, fmt: LayerFormat) -> QuantLayer:
    shape, bias = tuple(layer.weight.shape), layer.bias is not None
    if fmt.per_pixel:
        return QuantPointwiseConv2d(shape[:2], fmt, bias)
    if isinstance(layer, nn.Conv2d):
        padding = zero_padding(layer)
        assert padding is not None  # else it is no `quantizable` layer
        return QuantConv2d(shape, fmt, bias, (layer.stride[0], layer.stride[1]), padding)
    return QuantLinear(shape, fmt, bias)


def swap(model: nn.Module, layers: Mapping[str, QuantLayer]) -> None:
    """Replace layers of `model`, in place. Raises ConfigError for a name that is not a quantizable layer.

    A convolution whose parent module `FusesUpsample` is called through `forward_upsampled`. What other libraries would
    do to the weights as if they were in full precision then raises UsageError: see `refuse_lossy_calls`.
    """
    known = quantizable(model)
    unknown = sorted(set(layers) - set(known))
    if unknown:
        raise ConfigError(f"not layers that can be quantized: {', '.join(unknown[:3])}")
    for name, layer in layers.items():
        if isinstance(layer, QuantConv2d):
            layer.fuse_upsample = isinstance(model.get_submodule(name.rpartition(".")[0]), FusesUpsample)
    replace_by_name(model, layers)
    refuse_lossy_calls(model)


def prefer(model: nn.Module, backend: Backend) -> None:
    """Make every low-bit layer use a backend on every device that it can run on; see `QuantLayer.prefer`."""
    for layer in quant_layers(model).values():
        layer.prefer(backend)


def prepare(model: nn.Module, backend: Backend) -> None:
    """Prepare every low-bit layer that is in memory (not on the meta device); see `QuantLayer.prepare`."""
    for layer in quant_layers(model).values():
        if not layer.packed.is_meta:
            layer.prepare(backend)
