"""A 3- to 8-bit linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels.backend import Backend, LinearSpec
from ..kernels.channel_transform import ChannelTransform
from ..kernels.fusion import LinearFusion
from ..runtime.autocast import as_autocast, autocasts, under_autocast
from ..types import LayerFormat
from . import operators
from .input_gradient import needs_gradient, with_input_gradient
from .never_compiled import never_compiled
from .qlayer import QuantLayer


class QuantLinear(QuantLayer):
    """[..., C] -> [..., O], per-token activation scales; see QuantLayer."""

    def __init__(self, shape: tuple[int, ...], fmt: LayerFormat, bias: bool) -> None:
        super().__init__(shape, fmt, bias)
        self.out_features, self.in_features = shape[:2]
        self.codes_key: tuple[Any, ...] = ()  # what its activation codes depend on besides the input, once prepared
        self._cached: tuple[Tensor, Tensor] | None = None  # the last input and its result

    def release(self) -> None:
        super().release()
        self._cached = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cached": None, "codes_key": ()}  # backends cannot be pickled

    def _make_kernel(self, backend: Backend, transform: ChannelTransform) -> Any:
        scale = self.channel_scale.cpu().numpy().tobytes()
        self.codes_key = (backend, self.activations, self.rotation, scale)
        return backend.Linear(
            LinearSpec(weight=self.stored_weight(), activations=self.activations, bias=self.bias, transform=transform)
        )

    def forward(self, input: Tensor) -> Tensor:  # as torch's own calls it
        if operators.compiles():
            made: Tensor = operators.linear(as_autocast(input), self.weight_scale)
            return made
        return self._forward(input)

    @never_compiled
    def _forward(self, x: Tensor) -> Tensor:
        if needs_gradient(x):
            return with_input_gradient(self.compute, self.input_gradient, x)
        return self.compute(x)

    @torch.no_grad()
    def compute(self, x: Tensor) -> Tensor:
        """The output [..., O] for x [..., C], not recorded by autograd."""
        return project((self,), x)[0]

    def input_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of this shape, from the output's [..., O]."""
        return (gradient @ self.effective_weight().to(gradient.dtype)).view(shape)

    @never_compiled
    def cached(self, x: Tensor) -> Tensor:
        """`forward` for an input that mostly equals the last one. On CPUs the result is cached: do not change it."""
        if autocasts(x):
            return under_autocast(self.cached, x)
        self.kernel()
        if torch.is_grad_enabled() or x.device.type != "cpu":  # a comparison would wait for the device
            return self(x)
        cached = self._cached  # another thread may replace it meanwhile
        if cached is None or cached[0].dtype != x.dtype or not torch.equal(cached[0], x):
            cached = self._cached = x.clone(), self(x)
        return cached[1]


@never_compiled
def project(layers: Sequence[nn.Module], x: Tensor, fusion: LinearFusion | None = None) -> list[Tensor]:
    """Apply linear layers to one input [..., C]: one result [..., O] each.

    Low-bit layers with the same `codes_key` share its codes: balancing and rounding cost nearly as much as a product.
    Raises UsageError for a `fusion` unless `fused.fuses` every layer, and for its `skip` with several layers: these
    would ignore it, or add it more than once.
    """
    if fusion is not None and fusion.skip is not None and len(layers) > 1:
        raise UsageError(f"a skip is added to the output of one layer, got {len(layers)} layers")
    if not all(isinstance(layer, QuantLinear) for layer in layers):
        _refuse(fusion)
        return [layer(x) for layer in layers]
    if needs_gradient(x):
        _refuse(fusion)
        return [layer._forward(x) for layer in layers if isinstance(layer, QuantLinear)]
    if autocasts(x):
        return under_autocast(lambda cast: project(layers, cast, fusion), x)
    low = [(layer, layer.prepared()) for layer in layers if isinstance(layer, QuantLinear)]
    if any(layer.codes_key != low[0][0].codes_key for layer, _ in low):
        return [y for layer, _ in low for y in project((layer,), x, fusion)]
    with torch.no_grad():
        rows = x.reshape(-1, x.shape[-1])
        if low[0][1].fuses:
            first, *others = (prepared.kernel for _, prepared in low)
            made = first.fused(rows, fusion or LinearFusion(), tuple(others))
            return [y.view(*x.shape[:-1], y.shape[1]) for y in made]
        _refuse(fusion)
        codes, results = low[0][1].kernel.codes(rows), []
        for layer, prepared in low:
            y: Tensor = prepared.kernel.product(*codes)
            if layer.format.rank:
                down, up = layer.branch(x.dtype)
                y.addmm_(rows @ down.t(), up)
            results.append(y.view(*x.shape[:-1], y.shape[1]))
        return results


def _refuse(fusion: LinearFusion | None) -> None:
    if fusion is not None:
        raise UsageError("only layers whose kernels fuse take a fusion, and none does where gradients are recorded")
