"""Record what a model without data would launch on a GPU: torch's operators, and the `triton` backend's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quantface_core.kernels import triton
from quantface_core.kernels.triton import launch
from quantface_core.nn.swap import quant_layers

_VIEWS = {
    "view", "permute", "transpose", "t", "expand", "slice", "select", "split", "unbind", "as_strided", "unsqueeze",
    "squeeze", "alias", "detach", "_unsafe_view", "unfold", "split_with_sizes", "empty", "empty_like", "new_empty",
    "empty_strided", "new_empty_strided", "lift_fresh", "_reshape_alias",
}  # fmt: skip
_KERNELS = {"linalg_vector_norm": 2, "sort": 4}  # that torch launches for one call
_WAITS = ("__bool__", "__float__", "__int__", "item", "tolist", "cpu", "numpy", "nonzero")
_NUMBERS = ("tensor", "as_tensor", "from_numpy")


@dataclass(frozen=True)
class Launch:
    """One call that launches kernels on a device or, of kind `host`, makes the host wait or hand over a value."""

    part: str
    layer: str  # the module's name
    name: str  # of torch's operator, or of our kernel
    kind: str  # aten, triton, host
    shapes: tuple[tuple[int, ...], ...]  # of the tensors it reads and writes, in order
    bytes: int  # every operand once
    macs: int  # multiply-accumulates of its matrix product
    unit: str  # of the product: int8, float; empty = no product
    kernels: int = 1
    options: tuple[tuple[str, int], ...] = ()  # a kernel's integer arguments and constants


class Recorder(TorchDispatchMode):
    """Appends to `found` every launch of a model on torch's meta device, under the part that is set."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.layers, self.found = "", [""], list[Launch]()

    def add(self, name: str, kind: str, tensors: list[Tensor], **more: Any) -> None:
        given = {"bytes": sum(t.numel() * t.element_size() for t in tensors), "macs": 0, "unit": "", **more}
        shapes = tuple(tuple(t.shape) for t in tensors)
        self.found.append(Launch(self.part, self.layers[-1], name, kind, shapes, **given))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        ins = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if name == "convolution" and ins[0].ndim == 4:
            out = out.contiguous(memory_format=torch.channels_last)  # as cuDNN's
        outs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if name == "_to_copy" and outs[0].is_meta and not ins[0].is_meta:
            self.add(name, "host", [], kernels=0)
        elif name not in _VIEWS and any(t.is_meta for t in outs):
            self.add(name, "aten", [*ins, *outs], **_aten(name, args, ins, outs))
        return out

    def start(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        """Replaces `launch.start`."""
        named = dict(zip(kernel.arg_names, arguments, strict=False)) | options
        tensors = [a for a in named.values() if isinstance(a, Tensor)]
        numbers = {k: int(v) for k, v in named.items() if isinstance(v, int)} | {"programs": torch.Size(grid).numel()}
        name = kernel.fn.__name__
        self.add(name, "triton", tensors, **_ours(name, named), options=tuple(sorted(numbers.items())))


def _aten(name: str, args: Any, ins: list[Tensor], outs: list[Tensor]) -> dict[str, Any]:
    """The costs of a torch operator beyond its operands' bytes."""
    size = outs[0].numel()
    if name == "convolution":
        biased = args[2] is not None
        moved = sum(t.numel() * t.element_size() for t in (*ins[:2], *([outs[0]] * (3 if biased else 1))))
        return {"bytes": moved, "macs": size * args[1][0].numel(), "unit": "float", "kernels": 1 + biased}
    inner = {"mm": 0, "addmm": 1, "addmm_": 1, "bmm": 0}
    if name in inner:
        return {"macs": size * ins[inner[name]].shape[-1], "unit": "float"}
    return {"kernels": _KERNELS.get(name, 1)}


def _ours(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The multiply-accumulates of our kernels: integer products, rotations (tokens' run twice) and tokens' branches."""
    if name == "linear":
        return {"macs": given["count"] * given["inputs"] * given["outputs"], "unit": "int8"}
    if name in ("conv2d", "conv2d_part"):
        taps = given["KH"] * given["KW"] * (4 if given.get("PHASES") else 1)
        return {"macs": given["rows"] * given["outputs"] * given["channels"] * taps, "unit": "int8"}
    mixed = given["SIZE"] if given.get("matrix") is not None else 0
    if name == "_balanced":
        return {"macs": given["x"].numel() * mixed, "unit": "float"}
    if name == "_tokens":
        return {"macs": given["codes"].numel() * (2 * mixed + given["rank"]), "unit": "float"}
    return {}


@contextmanager
def recording(model: nn.Module, processors: int) -> Iterator[Recorder]:
    """Within the block, everything that the model launches on a GPU of so many multiprocessors goes to a recorder."""
    recorder = Recorder()

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, count, width = query.shape
        with torch._C._DisableTorchDispatch():
            out = torch.empty(batch, count, heads, width, dtype=query.dtype, device="meta").transpose(1, 2)
        macs = 2 * batch * heads * count * key.shape[2] * width
        recorder.add("attention", "aten", [query, key, value, out], macs=macs, unit="float")
        return out

    def enter(module: nn.Module, _: Any, name: str = "") -> None:
        recorder.layers.append(name)

    def leave(*_: Any) -> None:
        recorder.layers.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda m, x, name=name: enter(m, x, name)))
        hooks.append(module.register_forward_hook(leave))
    with ExitStack() as stack:
        swaps: list[tuple[Any, str, Any]] = [
            (launch, "start", recorder.start),
            (launch, "multiprocessors", lambda _: processors),
            (triton, "unavailable", lambda _: None),
            (F, "scaled_dot_product_attention", attention),
        ]
        for owner, name, new in swaps:
            stack.enter_context(patch.object(owner, name, new))
        launch.tile_of.cache_clear()
        stack.callback(launch.tile_of.cache_clear)
        _watch_host(stack, recorder)
        for layer in quant_layers(model).values():
            layer.prepare(triton)
        with recorder:
            yield recorder
    for hook in hooks:
        hook.remove()


def _watch_host(stack: ExitStack, recorder: Recorder) -> None:
    """Answer reads of meta tensors' values with made-up ones, and record them."""
    answers = {"__float__": 1.0, "__int__": 1, "item": 1, "tolist": [1], "__bool__": False}

    def watched(plain: Any, name: str) -> Any:
        def look(x: Tensor, *more: Any, **named: Any) -> Any:
            if not x.is_meta:
                return plain(x, *more, **named)
            recorder.add(name, "host", [], kernels=0)
            return torch.zeros(x.shape, dtype=x.dtype) if name == "cpu" else answers[name]

        return look

    for name in _WAITS:
        if name in answers or name == "cpu":
            stack.enter_context(patch.object(Tensor, name, watched(getattr(Tensor, name), name)))

    def made(plain: Any, name: str) -> Any:
        def look(*given: Any, **named: Any) -> Any:
            recorder.add(name, "host", [], kernels=0)
            return plain(*given, **named)

        return look

    for name in _NUMBERS:
        stack.enter_context(patch.object(torch, name, made(getattr(torch, name), name)))
