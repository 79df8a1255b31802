"""A low-bit layer's `weight`, for code that reads it: a tensor whose values are computed once something needs them.

Other libraries ask a layer's weight for its dtype, device or shape at every forward pass. Dequantizing it for that
takes longer than the layer's product, and keeping the values would hold the model in full precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..errors import UsageError
from .never_compiled import never_compiled

_Tensor: Any = Tensor  # whose properties torch's functions are compared with
# Answered without values. Anything else gets an ordinary tensor, so what is missing here is slower, not wrong.
_DESCRIBED = {
    *(getattr(_Tensor, name).__get__ for name in ("dtype", "shape", "ndim", "layout", "requires_grad")),
    *(getattr(_Tensor, name) for name in ("size", "dim", "numel", "element_size", "is_floating_point", "__len__")),
    torch.is_floating_point,
}
_DEVICE, _DETACHED = _Tensor.device.__get__, {_Tensor.data.__get__, _Tensor.detach, torch.detach}
_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
_ASSIGNING = {"__set__", "__setitem__", *(f"__i{operator}__" for operator in _OPERATORS)}


class DequantizedWeight(Tensor):
    """A tensor that knows its shape, dtype and device, and computes its values at the first use of them.

    An operation on it gets and returns ordinary tensors. One that would change it, or make it a parameter, raises
    UsageError, because the layer would go on computing with its integers. Code that bypasses torch's functions finds a
    tensor on the meta device, which has no values to read or overwrite.
    """

    place: torch.device  # of the values
    compute: Callable[[], Tensor]
    computed: list[Tensor]  # the values, once they are

    @staticmethod
    @never_compiled
    def __new__(
        cls, shape: Sequence[int], dtype: torch.dtype, device: torch.device, compute: Callable[[], Tensor]
    ) -> DequantizedWeight:
        """`compute` returns the values, in any floating-point dtype; it is called at most once."""
        made: DequantizedWeight = _Tensor._make_wrapper_subclass(cls, tuple(shape), dtype=dtype, device="meta")
        made.place, made.compute, made.computed = device, compute, []
        return made

    @never_compiled
    def plain(self) -> Tensor:
        """The values as an ordinary tensor, the same one at every call."""
        if not self.computed:
            with torch.no_grad():
                self.computed.append(self.compute().to(self.place, self.dtype))
        return self.computed[0]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DESCRIBED:
            return super().__torch_function__(func, types, args, kwargs or {})
        first = args[0] if args else next(iter(kwargs.values()))
        if isinstance(first, cls):
            if func == _DEVICE:
                return first.place
            if func in _DETACHED:
                return first
            if _changes(func):
                raise UsageError(
                    "a low-bit layer's weight cannot be changed or trained, the layer computes with its integers: "
                    "clone() it for a copy that can"
                )
        return func(*_plain(args), **_plain(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return func(*_plain(args), **_plain(kwargs or {}))  # where torch's functions are bypassed


def _changes(func: Any) -> bool:
    """Whether a function of torch changes its first argument in place, by torch's naming."""
    name = getattr(func, "__name__", "")
    return name in _ASSIGNING or (name.endswith("_") and not name.endswith("__"))


def _plain(values: Any) -> Any:
    return tree_map(lambda value: value.plain() if isinstance(value, DequantizedWeight) else value, values)
