"""Low-bit layers as `torch.compile` sees them: operators, which it calls without looking into them.

A compiled graph holds tensors and numbers, not modules, so an operator finds its layer by a buffer: `weight_scale`, of
which every layer has its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ..errors import UsageError
from .never_compiled import refuse_export

# From torch 2.6 on: operators came with 2.4, whose compiled models were only tried with layers between the graphs.
AVAILABLE = hasattr(torch.library, "custom_op") and hasattr(torch.compiler, "set_stance")
_NAMESPACE = re.sub(r"\W", "_", __name__.removesuffix(".nn.operators"))  # a host may load the library twice

_numbers = count()
_layers: WeakValueDictionary[int, Operable] = WeakValueDictionary()
_by_address: WeakValueDictionary[int, Operable] = WeakValueDictionary()  # of `weight_scale`, which may have moved


class Operable(Protocol):
    """A layer that operators compute with, as `QuantLayer`."""

    weight_scale: Tensor

    def compute(self, x: Tensor) -> Tensor:
        """The output for x, not recorded by autograd."""

    def input_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of this shape, from the output's."""


def register(layer: Operable) -> None:
    """Let operators find a layer, as long as it exists."""
    _layers[next(_numbers)] = layer


def compiles() -> bool:
    """Whether the compiler is tracing the caller, which then calls an operator. Raises UsageError in an export."""
    if not AVAILABLE or not torch.compiler.is_compiling():
        return False
    refuse_export()
    return True


def _layer_of(scale: Tensor) -> Operable:
    address = scale.data_ptr()
    layer = _by_address.get(address)
    if layer is None or layer.weight_scale.data_ptr() != address:
        found = (reference() for reference in _layers.valuerefs())  # at once: other threads may register more meanwhile
        layer = next((one for one in found if one is not None and one.weight_scale.data_ptr() == address), None)
        if layer is None:
            raise UsageError("the model's low-bit layers have changed since it was compiled: compile it again")
        _by_address[address] = layer
    return layer


def _linear(x: Tensor, scale: Tensor) -> Tensor:
    return _layer_of(scale).compute(x)


def _linear_shape(x: Tensor, scale: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], scale.shape[0])


_Sizes = Sequence[int]


def _conv2d(x: Tensor, scale: Tensor, kernel: _Sizes, stride: _Sizes, padding: _Sizes) -> Tensor:
    return _layer_of(scale).compute(x).contiguous(memory_format=torch.channels_last)


def _conv2d_shape(x: Tensor, scale: Tensor, kernel: _Sizes, stride: _Sizes, padding: _Sizes) -> Tensor:
    height, width = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], padding, kernel, stride, strict=True))
    return x.new_empty(x.shape[0], height, width, scale.shape[0]).permute(0, 3, 1, 2)


def _input_gradient(gradient: Tensor, scale: Tensor, shape: _Sizes) -> Tensor:
    return _layer_of(scale).input_gradient(gradient, torch.Size(shape)).contiguous()


def _input_gradient_shape(gradient: Tensor, scale: Tensor, shape: _Sizes) -> Tensor:
    return gradient.new_empty(shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.shape, ctx.others = inputs[0].shape, len(inputs) - 1
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return input_gradient(gradient, *ctx.saved_tensors, ctx.shape), *[None] * ctx.others


def _operator(name: str, schema: str, compute: Callable[..., Tensor], shape: Callable[..., Tensor]) -> Any:
    if not AVAILABLE:
        return compute
    made = torch.library.custom_op(f"{_NAMESPACE}::{name}", compute, mutates_args=(), schema=schema)
    made.register_fake(shape)
    return made


linear = _operator("linear", "(Tensor x, Tensor scale) -> Tensor", _linear, _linear_shape)
conv2d = _operator(
    "conv2d",
    "(Tensor x, Tensor scale, SymInt[] kernel, SymInt[] stride, SymInt[] padding) -> Tensor",
    _conv2d,
    _conv2d_shape,
)
input_gradient = _operator(
    "input_gradient",
    "(Tensor gradient, Tensor scale, SymInt[] shape) -> Tensor",
    _input_gradient,
    _input_gradient_shape,
)
if AVAILABLE:
    for _one in (linear, conv2d):
        _one.register_autograd(_backward, setup_context=_keep)
