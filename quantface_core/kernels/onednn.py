"""The x86 backend: oneDNN's integer products on prepacked weights (DESIGN.md section 4).

Activations are unsigned bytes around a zero point: a signed source falls to a kernel a thousand times
slower. Scales of tokens and images stay outside of the product, so one prepacked weight serves all.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor

from .quantize import largest_code, per_image_scale, per_token_scale, quantize
from .weight import LowBitWeight

_SAFE_BITS = 7  # without VNNI, products of 8-bit codes saturate in 16 bits


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        return "this build of torch has no oneDNN"
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return "without VNNI instructions its 8-bit products saturate"
    return None


def _unsigned(codes: Tensor, zero_point: int) -> Tensor:
    return (codes.view(torch.uint8) + zero_point) if codes.is_contiguous() else (codes + zero_point).to(torch.uint8)


class Linear:
    """As `reference.Linear`."""

    def __init__(self, weight: LowBitWeight, x_bits: int, clip: float) -> None:
        self.x_bits, self.clip, self.zero_point = x_bits, clip, largest_code(x_bits) + 1
        self.weight = torch.ops.onednn.qlinear_prepack(weight.codes(), None)
        self.scale = weight.scale.float()
        self.zeros = torch.zeros_like(self.scale, dtype=torch.int64)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [..., K], offset by `zero_point`, and per-token scales [..., 1]."""
        x = x.float()
        scale = per_token_scale(x, self.x_bits, self.clip)
        return _unsigned(quantize(x, scale, self.x_bits), self.zero_point), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes.flatten(0, -2), 1.0, self.zero_point, self.weight, self.scale, self.zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product.unflatten(0, x.shape[:-1]).mul_(scale)


class Conv2d:
    """As `reference.Conv2d`."""

    def __init__(
        self, weight: LowBitWeight, x_bits: int, clip: float, stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        self.x_bits, self.clip, self.zero_point = x_bits, clip, largest_code(x_bits) + 1
        self.stride, self.padding = list(stride), list(padding)
        self.scale = weight.scale.float()
        self.zeros = torch.zeros_like(self.scale, dtype=torch.int8)
        self.weight = torch.ops.onednn.qconv_prepack(
            weight.codes(), self.scale, 1.0, 0, self.stride, self.padding, [1, 1], 1, None
        )

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [B, C, H, W], offset by `zero_point`, and per-image scales [B, 1, 1, 1]."""
        x = x.float()
        scale = per_image_scale(x, self.x_bits, self.clip)
        codes = _unsigned(quantize(x, scale, self.x_bits), self.zero_point)
        return codes.contiguous(memory_format=torch.channels_last), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        product: Tensor = torch.ops.onednn.qconv_pointwise(
            codes, 1.0, self.zero_point, self.weight, self.scale, self.zeros, None,
            self.stride, self.padding, [1, 1], 1, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product.mul_(scale)
