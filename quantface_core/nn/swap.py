"""Find the layers that can be quantized, and put low-bit ones in their places, by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..errors import ConfigError
from ..kernels.backend import Backend
from ..types import LayerFormat
from .qconv2d import QuantConv2d
from .qlayer import QuantLayer
from .qlinear import QuantLinear
from .qpointwise import QuantPointwiseConv2d
from .replace import replace_by_name

Layer = nn.Linear | nn.Conv2d


def quantizable(model: nn.Module) -> dict[str, Layer]:
    """Linears and ungrouped, undilated, zero-padded convolutions by name, in the model's order.

    Not the model itself, which has no place to put another in, nor layers that compute in a way of their own.
    """
    return {name: module for name, module in model.named_modules() if name and _fits(module)}


def _fits(module: nn.Module) -> bool:
    if type(module).forward not in (nn.Linear.forward, nn.Conv2d.forward):
        return False
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        return plain and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of single pixels: a linear over them."""
    if not isinstance(layer, nn.Conv2d):
        return False
    return (*layer.kernel_size, *layer.stride) == (1, 1, 1, 1) and layer.padding == (0, 0)


def quant_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """The low-bit layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


def empty_like(layer: Layer, fmt: LayerFormat) -> QuantLayer:
    """A low-bit layer of the same shape, its integers not set yet."""
    shape, bias = tuple(layer.weight.shape), layer.bias is not None
    if fmt.per_pixel:
        return QuantPointwiseConv2d(shape[:2], fmt, bias)
    if isinstance(layer, nn.Conv2d):
        padding = layer.padding
        assert not isinstance(padding, str)
        return QuantConv2d(shape, fmt, bias, (layer.stride[0], layer.stride[1]), (padding[0], padding[1]))
    return QuantLinear(shape, fmt, bias)


def swap(model: nn.Module, layers: Mapping[str, QuantLayer]) -> None:
    """Replace layers of `model`, in place. Raises ConfigError for a name that is no quantizable layer.

    A convolution in a module with a true `fuse_upsample` is one that is asked for `forward_upsampled`.
    """
    known = quantizable(model)
    unknown = sorted(set(layers) - set(known))
    if unknown:
        raise ConfigError(f"not layers that can be quantized: {', '.join(unknown[:3])}")
    for name, layer in layers.items():
        if isinstance(layer, QuantConv2d):
            layer.fuse_upsample = getattr(model.get_submodule(name.rpartition(".")[0]), "fuse_upsample", False)
    replace_by_name(model, layers)


def prefer(model: nn.Module, backend: Backend) -> None:
    """Let every low-bit layer run on a backend wherever it can, from its first use on."""
    for layer in quant_layers(model).values():
        layer.prefer(backend)


def prepare(model: nn.Module, backend: Backend, preferred: bool = False) -> None:
    """Make every low-bit layer that is in memory ready to run on a backend; see `QuantLayer.prepare`."""
    for layer in quant_layers(model).values():
        if not layer.packed.is_meta:
            layer.prepare(backend, preferred)
