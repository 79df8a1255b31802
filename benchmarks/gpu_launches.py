"""Count what one face costs on a GPU, without one: launches, bytes and multiplications, by part of the restorer.

    python benchmarks/gpu_launches.py [--bits bf16 w4a4] [--faces 1] [--processors 28] [--layers] [--json FILE]

A full-size forward pass runs on torch's meta device, with the `triton` backend's launches recorded instead of made.
Every operand's bytes count once, as if caches did the rest; a convolution's bias, a large vector norm and a sort launch
kernels of their own and are counted as such. Whatever waits for the device or makes a tensor from a host value cannot
be captured in a CUDA graph: it is listed as `host`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quantface_core.io.recipes import load_recipe
from quantface_core.kernels import triton
from quantface_core.kernels.triton import launch
from quantface_core.nn.swap import empty_like, quant_layers, quantizable, swap
from quantface_core.restorer import OSDFACE, OneStepRestorer, RestorerConfig
from quantface_core.stages.quantize import restorer_formats
from quantface_core.types import Bits

PARTS = ("embedder", "encoder", "unet", "decoder")
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


def restorer_without_numbers(bits: str, config: RestorerConfig = OSDFACE) -> OneStepRestorer:
    """A restorer on the meta device as a GPU would run it: channels last, bfloat16, with low-bit layers for `triton`.

    The low-bit layers are those of OSDFace's recipes.
    """
    with torch.device("meta"):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
        if bits != "bf16":
            weight_bits, activation_bits = Bits.parse(bits)
            recipe = load_recipe("osdface-w4a4").quantize
            settings = replace(recipe, weight_bits=weight_bits, activation_bits=activation_bits)
            layers = quantizable(restorer)
            swap(restorer, {n: empty_like(layers[n], f) for n, f in restorer_formats(restorer, settings).items()})
    restorer.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return restorer


def launches(restorer: OneStepRestorer, faces: int = 1, processors: int = 132) -> list[Launch]:
    """All launches of the four parts for some faces at once, on a GPU with so many multiprocessors."""
    found: list[Launch] = []
    size = restorer.config.image_size
    image = torch.empty(faces, 3, size, size, device="meta")
    work = _parts(restorer, image)
    with _watched(restorer, processors) as recorder, torch.no_grad():
        for _ in range(2):  # the first pass makes what is cached, such as prepacked weights
            recorder.found = found = []
            for part, run in zip(PARTS, work, strict=True):
                recorder.part = part
                run()
    return found


def _parts(restorer: OneStepRestorer, image: Tensor) -> list[Callable[[], None]]:
    made: dict[str, Any] = {}

    def keep(name: str, run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: made.update({name: run()})

    return [
        keep("prompt", lambda: restorer.embedder(image.to(restorer.dtype))),
        keep("latent", lambda: restorer.encode(image)),
        keep("restored", lambda: restorer.predict(made["latent"], made["prompt"])),
        keep("picture", lambda: restorer.decode(made["restored"])),
    ]


class _Recorder(TorchDispatchMode):
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
def _watched(restorer: OneStepRestorer, processors: int) -> Iterator[_Recorder]:
    """Within the block, everything that the model launches goes to a recorder."""
    recorder = _Recorder()

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
    for name, module in restorer.named_modules():
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
        for layer in quant_layers(restorer).values():
            layer.prepare(triton)
        with recorder:
            yield recorder
    for hook in hooks:
        hook.remove()


def _watch_host(stack: ExitStack, recorder: _Recorder) -> None:
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


def totals(found: list[Launch]) -> dict[str, dict[str, float]]:
    """By part and in total: launches (kernels), GB, multiply-accumulates, those of int8, and what the host does."""
    rows: dict[str, dict[str, float]] = {}
    for part in (*PARTS, "all"):
        here = [one for one in found if part in (one.part, "all")]
        rows[part] = {
            "launches": sum(one.kernels for one in here),
            "GB": sum(one.bytes for one in here) / 1e9,
            "GMAC": sum(one.macs for one in here) / 1e9,
            "int8 GMAC": sum(one.macs for one in here if one.unit == "int8") / 1e9,
            "host": sum(one.kind == "host" for one in here),
        }
    return rows


def main() -> None:
    from report import table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4"])
    parser.add_argument("--faces", type=int, default=1, help="restored at once")
    parser.add_argument("--processors", type=int, default=132, help="the GPU's multiprocessors, on which tiles depend")
    parser.add_argument("--layers", action="store_true", help="also list operations")
    parser.add_argument("--json", type=Path, help="write every launch here")
    arguments = parser.parse_args()
    written = {}
    for bits in arguments.bits:
        found = launches(restorer_without_numbers(bits), arguments.faces, arguments.processors)
        rows = totals(found)
        print(table([bits, *rows["all"]], [[part, *row.values()] for part, row in rows.items()], 1), flush=True)
        if arguments.layers:
            for name, count in Counter(f"{one.kind} {one.name}" for one in found).most_common():
                size = sum(one.bytes for one in found if f"{one.kind} {one.name}" == name)
                print(f"{count:6d} {size / 1e6:10.1f} MB {name}")
        written[bits] = [asdict(one) for one in found]
    if arguments.json:
        arguments.json.write_text(json.dumps(written))


if __name__ == "__main__":
    main()
