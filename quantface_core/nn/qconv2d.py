"""A 3- to 8-bit 2D convolution: any stride, any zero padding, no dilation, one group."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from ..kernels.backend import Backend, Conv2dSpec
from ..kernels.channel_transform import ChannelTransform
from ..kernels.fusion import Conv2dFusion
from ..kernels.upsample_conv import doubled_conv2d, phase_kernels
from ..runtime.autocast import as_autocast, autocasts, under_autocast
from ..types import LayerFormat
from . import operators
from .input_gradient import needs_gradient, with_input_gradient
from .interop import plain_for_adapters
from .never_compiled import never_compiled
from .qlayer import QuantLayer


class QuantConv2d(QuantLayer):
    """[B, C, H, W] or [C, H, W] -> [B, O, H', W'] or [O, H', W'], per-image activation scales; see QuantLayer."""

    dilation, groups, padding_mode = (1, 1), 1, "zeros"
    __new__ = plain_for_adapters  # type: ignore[assignment]

    def __init__(
        self,
        shape: tuple[int, ...],
        fmt: LayerFormat,
        bias: bool,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(shape, fmt, bias)
        self.out_channels, self.in_channels, *_ = shape
        self.kernel_size, self.stride, self.padding = shape[2:], stride, padding
        self.fuse_upsample = False  # whether its parent calls `forward_upsampled`, not `forward`: see `swap`

    def _empty(self, fmt: LayerFormat) -> QuantLayer:
        return QuantConv2d(self.shape, fmt, self.bias is not None, self.stride, self.padding)

    def _make_kernel(self, backend: Backend, transform: ChannelTransform) -> Any:
        return backend.Conv2d(
            Conv2dSpec(
                weight=self.stored_weight(),
                activations=self.activations,
                bias=self.bias,
                transform=transform,
                stride=self.stride,
                padding=self.padding,
                fuse_upsample=self.fuse_upsample,
            )
        )

    def forward(self, input: Tensor, fusion: Conv2dFusion | None = None) -> Tensor:
        """See the class for shapes; `fusion` only where `fused.fuses` the layer."""
        if input.ndim == 3:
            return self.forward(input[None], fusion)[0]
        if fusion is None and operators.compiles():
            x, kernel = as_autocast(input), self.shape[2:]
            made: Tensor = operators.conv2d(x, self.weight_scale, kernel, self.stride, self.padding)
            return made
        return self._forward(input, fusion)

    @never_compiled
    def _forward(self, x: Tensor, fusion: Conv2dFusion | None) -> Tensor:
        if needs_gradient(x):
            return with_input_gradient(self.compute, self.input_gradient, x)
        return self.compute(x, fusion)

    def input_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of this shape, from the output's [B, O, H', W']."""
        weight = self.effective_weight().to(gradient.dtype)
        return conv2d_input(list(shape), weight, gradient, self.stride, self.padding)

    @torch.no_grad()
    def compute(self, x: Tensor, fusion: Conv2dFusion | None = None) -> Tensor:
        """The output [B, O, H', W'] for x [B, C, H, W], not recorded by autograd; `fusion` as for `forward`."""
        if autocasts(x):
            return under_autocast(partial(self.compute, fusion=fusion), x)
        if not len(x) or any(n + 2 * p < k for n, p, k in zip(x.shape[2:], self.padding, self.shape[2:], strict=True)):
            # Nothing to compute: torch returns its own empty result, or raises its own error.
            return F.conv2d(x, x.new_empty(self.shape), None, self.stride, self.padding)
        prepared = self.prepared()
        if prepared.fuses:
            return prepared.kernel.fused(x, fusion or Conv2dFusion())
        y = prepared.kernel(x)
        low = F.conv2d(x, self.branch(x.dtype)[0], None, self.stride, self.padding) if self.format.rank else None
        return self._joined(y, low)

    @never_compiled
    def forward_upsampled(self, x: Tensor) -> Tensor:
        """`forward` of x ([B, C, H, W] or [C, H, W]) upsampled 2x (nearest neighbour), in fewer products if it can."""
        if x.ndim == 3:
            return self.forward_upsampled(x[None])[0]
        if needs_gradient(x):
            return with_input_gradient(self._compute_upsampled, self._upsampled_gradient, x)
        return self._compute_upsampled(x)

    def _upsampled_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        batch, channels, height, width = shape
        doubled = self.input_gradient(gradient, torch.Size((batch, channels, 2 * height, 2 * width)))
        return F.avg_pool2d(doubled, 2) * 4

    @torch.no_grad()
    def _compute_upsampled(self, x: Tensor) -> Tensor:
        if autocasts(x):
            return under_autocast(self._compute_upsampled, x)
        if self.shape[2:] != (3, 3) or not self.stride == self.padding == (1, 1) or not len(x):
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        prepared = self.prepared()
        if prepared.fuses:
            return prepared.kernel.fused(x, Conv2dFusion(sums=True), upsample=True)
        y = prepared.kernel.forward_upsampled(x)
        return self._joined(y, doubled_conv2d(x, self._phases(x.dtype)) if self.format.rank else None)

    def _phases(self, dtype: torch.dtype) -> list[Tensor]:
        """The phase kernels [rank, C, 2, 2] of the branch's `down`, summed before they are rounded to the dtype."""
        prepared = self.prepared()
        if ("phases", dtype) not in prepared.branches:
            kernels = (k.to(dtype) for k in phase_kernels(prepared.transform.fold(self.stored_branch()[0])))
            made = [k.contiguous(memory_format=torch.channels_last) for k in kernels]
            prepared.branches["phases", dtype] = made
        phases: list[Tensor] = prepared.branches["phases", dtype]
        return phases

    def _joined(self, y: Tensor, low: Tensor | None) -> Tensor:
        """The integer product y [B, O, H, W] plus `up` of low [B, rank, H, W], channels last."""
        # Channels last, whatever the backend: norms sum in memory order, and codes downstream depend on it.
        y = y.permute(0, 2, 3, 1).contiguous()
        if low is not None:
            up = self.branch(low.dtype)[1]
            y.view(-1, y.shape[3]).addmm_(low.permute(0, 2, 3, 1).reshape(-1, low.shape[1]), up)
        return y.permute(0, 3, 1, 2)
