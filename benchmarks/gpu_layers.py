"""Every kind of low-bit layer of a restorer on a GPU, fused with what is around it, against the same steps one by one.

`gpu.py` does this first: where an image is wrong, it names the layer. Results of bfloat16 differ by its rounding, and
where another order of sums makes a code the next one; a wrong kernel's differ by far more than `CLOSE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from quantface_core import OneStepRestorer
from quantface_core.errors import one_line
from quantface_core.kernels import half, reference, triton
from quantface_core.kernels.fusion import Conv2dFusion, LinearFusion, TokenNorm, get_channel_sums
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.swap import prepare, quant_layers

CLOSE = {"triton": 0.01, "half": 2**-9}  # of a result's size
_EPS = 1e-5
Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Check:
    """One layer in one fusion: how far its result is from the steps', relative to its size, and from a second run's."""

    layer: str
    kind: str
    error: float
    repeats: bool  # whether a second run gives the same to the bit


def inputs_of(restorer: OneStepRestorer, face: Tensor) -> dict[str, torch.Size]:
    """Layers of all shapes by name, one of each, and the shape of what they read for a face [1, 3, S, S]."""
    prepare(restorer, reference)
    names = {id(layer.kernel()): name for name, layer in quant_layers(restorer).items()}
    layers, read = quant_layers(restorer), dict[str, torch.Size]()
    product, codes = reference.Linear.product, reference.Conv2d.codes

    def of_linear(kernel: Any, rows: Tensor, scale: Tensor) -> Tensor:
        read[names[id(kernel)]] = rows.shape
        return product(kernel, rows, scale)

    def of_conv2d(kernel: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        read[names[id(kernel)]] = x.shape
        return codes(kernel, x)

    with patch.object(reference.Linear, "product", of_linear), patch.object(reference.Conv2d, "codes", of_conv2d):
        restorer(face)
    kinds = {_kind(layers[name], shape): name for name, shape in reversed(read.items())}
    return {name: read[name] for name in reversed(kinds.values())}


def _kind(layer: QuantLayer, shape: torch.Size) -> tuple[Any, ...]:
    sides = (layer.stride, layer.padding, layer.fuse_upsample) if isinstance(layer, QuantConv2d) else ()
    return layer.shape, sides, shape


@torch.inference_mode()
def checks(restorer: OneStepRestorer, backend: str, face: Tensor) -> Iterator[Check]:
    """Check a restorer's layers by the backend `triton` or `half`, on the face's device and in the model's dtype."""
    layers = quant_layers(restorer)
    for number, (name, shape) in enumerate(inputs_of(restorer, face).items()):
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(shape, generator=generator).to(face.device, restorer.dtype)
        cases = _plain(layers[name], x) if backend == "half" else _fused(layers[name], x)
        for kind, ours, steps in cases:
            place = f"{name} {list(shape)}"
            try:
                found, again, expected = ours().float(), ours().float(), steps().float()
            except Exception as error:  # from Triton, the compiler or the driver: the other layers say more about it
                yield Check(place, f"{kind}: {one_line(error)}", math.inf, True)
                continue
            yield Check(place, kind, float((found - expected).norm() / expected.norm()), torch.equal(found, again))


def wrong(found: list[Check], backend: str) -> list[Check]:
    """Checks that failed: NaN is as wrong as too large an error."""
    return [check for check in found if not (check.error <= CLOSE[backend] and check.repeats)]


def _plain(layer: QuantLayer, x: Tensor) -> Iterator[tuple[str, Work, Work]]:
    layer.prepare(reference)
    theirs = layer.kernel()
    layer.prepare(half)
    ours = layer.kernel()
    x = x if x.ndim == 2 else x.contiguous(memory_format=torch.channels_last)
    yield "plain", lambda: ours(x), lambda: theirs(x)


def _fused(layer: QuantLayer, x: Tensor) -> Iterator[tuple[str, Work, Work]]:
    layer.prepare(reference)
    theirs = layer.kernel()
    layer.prepare(triton)
    ours = layer.kernel()
    branch = layer.stored_branch() if layer.format.rank else None
    if isinstance(layer, QuantConv2d):
        yield from _of_conv2d(layer, ours, theirs, branch, x.contiguous(memory_format=torch.channels_last))
    else:
        yield from _of_linear(layer, ours, theirs, branch, x)


def _of_linear(layer: QuantLayer, ours: Any, theirs: Any, branch: Any, x: Tensor) -> Iterator[tuple[str, Work, Work]]:
    weight, bias = x[0] * 0.1 + 1, x[-1] * 0.1
    norm, skip = TokenNorm(weight, bias, _EPS), theirs(x).flip(0)
    gated = torch.cat((x, x.flip(0)), 1)

    def steps(x: Tensor) -> Tensor:
        y: Tensor = theirs(x)
        if branch is None:
            return y
        down, up = (factor.to(x.dtype) for factor in branch)
        return y + layer.prepared().transform(x) @ down.t() @ up.t()

    def after_norm() -> Tensor:
        return steps(F.layer_norm(x, x.shape[-1:], weight, bias, _EPS))

    yield "norm", lambda: ours.fused(x, LinearFusion(norm))[0], after_norm
    yield "skip", lambda: ours.fused(x, LinearFusion(skip=skip))[0], lambda: steps(x) + skip
    yield "gate", lambda: ours.fused(gated, LinearFusion(gated=True))[0], lambda: steps(x * F.gelu(x.flip(0)))


def _of_conv2d(layer: QuantConv2d, ours: Any, theirs: Any, branch: Any, x: Tensor) -> Iterator[tuple[str, Work, Work]]:
    transform = layer.prepared().transform

    def steps(x: Tensor) -> Tensor:
        y: Tensor = theirs(x)
        if branch is None:
            return y
        down, up = (factor.to(x.dtype) for factor in branch)
        low = F.conv2d(transform(x.movedim(1, -1)).movedim(-1, 1), down, None, layer.stride, layer.padding)
        return y + F.conv2d(low, up[:, :, None, None])

    if layer.fuse_upsample:
        small = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        doubled = F.interpolate(small, scale_factor=2.0, mode="nearest")
        yield "upsampled", lambda: ours.fused(small, Conv2dFusion(sums=True), True), lambda: steps(doubled)
        return
    factors = torch.stack((x[:, :, 0, 0] * 0.1 + 1, x[:, :, -1, -1] * 0.1), 1).float().contiguous()
    skip = steps(x).flip(2).contiguous(memory_format=torch.channels_last)
    added = skip[:, :, 0, 0].contiguous()

    def after_norm() -> Tensor:
        normed = (x.float() * factors[:, 0, :, None, None] + factors[:, 1, :, None, None]).to(x.dtype)
        return steps(F.silu(normed)) + added[:, :, None, None] + skip

    fusion = Conv2dFusion(factors, True, added, skip, sums=True)
    yield "plain", lambda: ours.fused(x, Conv2dFusion()), lambda: steps(x)
    yield "norm, SiLU, bias, skip", lambda: ours.fused(x, fusion), after_norm
    yield "channel sums", lambda: _totals(ours.fused(x, fusion)), lambda: _squares(after_norm())


def _totals(y: Tensor) -> Tensor:
    """Each channel's sum of squares as attached to a map; summed here where an image does not fill whole tiles."""
    sums = get_channel_sums(y)
    return _squares(y) if sums is None else sums.sum(1)[:, 1]


def _squares(y: Tensor) -> Tensor:
    return y.float().square().sum((2, 3))
