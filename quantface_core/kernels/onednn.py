"""The x86 backend: oneDNN's integer products on prepacked weights (DESIGN.md section 4).

Activations are unsigned bytes around a zero point: a signed source falls to a kernel a thousand times
slower. They are balanced and rounded in pieces that stay in the processor's cache, because at the sizes
of pictures the passes over memory cost more than the product.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import torch
from torch import Tensor

from .mixer import Mixer
from .quantize import largest_code, offset, per_image_scale, per_token_scale, rounds_in_bfloat16
from .reference import scale_rows
from .weight import LowBitWeight

_PIECE = 1 << 18  # numbers balanced and rounded at once
_WRITES = (torch.float32, torch.bfloat16)  # dtypes the products can be written in


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        return "this build of torch has no oneDNN"
    if not _has_vnni():
        return "without VNNI instructions its 8-bit products saturate"
    return None


def _has_vnni() -> bool:
    """Whether the processor multiplies bytes into 32 bits; without, sums of 8-bit products saturate at 16."""
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(known()) if known else torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _pieces(rows: Tensor) -> Iterator[slice]:
    step = max(1, _PIECE // max(1, rows.shape[1]))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _write_codes(balanced: Tensor, scale: Tensor, bits: int, out: Tensor) -> None:
    """Codes offset to unsigned bytes, as `quantize.quantize` rounds them."""
    limit = largest_code(bits)
    out.copy_(torch.div(balanced, scale.float()).round_().clamp_(-limit, limit).add_(limit + 1))


def _write_image_codes(balanced: Tensor, scale: Tensor, bits: int, out: Tensor) -> None:
    """The same of an image's, as `quantize.quantize_image` rounds them."""
    if not rounds_in_bfloat16(balanced.dtype, bits):
        _write_codes(balanced, scale, bits, out)
        return
    limit, middle = largest_code(bits), offset(bits)
    steps = torch.add(torch.tensor(middle, dtype=balanced.dtype), balanced, alpha=float(scale.reciprocal()))
    # The low byte of 128 + k is k: read as short integers, it is cut off faster than any float is converted.
    out.copy_(steps.clamp_(middle - limit, middle + limit).view(torch.int16))


def _write_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype in _WRITES else torch.float32


class Linear:
    """As `reference.Linear`."""

    def __init__(
        self,
        weight: LowBitWeight,
        x_bits: int,
        clip: float,
        bias: Tensor | None = None,
        mixer: Mixer | None = None,
    ) -> None:
        self.x_bits, self.clip, self.zero_point = x_bits, clip, largest_code(x_bits) + 1
        self.bias, self.mixer = bias, mixer
        self.weight = torch.ops.onednn.qlinear_prepack(weight.codes(), None)
        self.scale = weight.scale.float()
        self.zeros = torch.zeros_like(self.scale, dtype=torch.int64)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [N, K], offset by `zero_point`, and per-token scales [N, 1] in the dtype of x."""
        codes = torch.empty(x.shape, dtype=torch.uint8)
        scales = torch.empty(len(x), 1, dtype=x.dtype)
        for piece in _pieces(x):
            balanced = self.mixer(x[piece]) if self.mixer else x[piece]
            scales[piece] = per_token_scale(balanced, self.x_bits, self.clip)
            _write_codes(balanced, scales[piece], self.x_bits, codes[piece])
        return codes, scales

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, self.zero_point, self.weight, self.scale, self.zeros,
            None, 1.0, 0, _write_dtype(x), "none", [], "",
        ).to(x.dtype)  # fmt: skip
        return scale_rows(product, scale, self.bias)


class Conv2d:
    """As `reference.Conv2d`."""

    def __init__(
        self,
        weight: LowBitWeight,
        x_bits: int,
        clip: float,
        stride: tuple[int, int],
        padding: tuple[int, int],
        bias: Tensor | None = None,
        mixer: Mixer | None = None,
    ) -> None:
        self.x_bits, self.clip, self.zero_point = x_bits, clip, largest_code(x_bits) + 1
        self.stride, self.padding = list(stride), list(padding)
        self.bias, self.mixer = bias, mixer
        self.scale = weight.scale.float()
        self.zeros = torch.zeros_like(self.scale, dtype=torch.int8)
        self.weight = torch.ops.onednn.qconv_prepack(
            weight.codes(), self.scale, 1.0, 0, self.stride, self.padding, [1, 1], 1, None
        )

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [B, C, H, W], offset by `zero_point`, and per-image scales [B, 1, 1, 1]."""
        maps = x.permute(0, 2, 3, 1)
        codes, scales = torch.empty(maps.shape, dtype=torch.uint8), []
        for image, out in zip(maps.flatten(1, 2), codes.flatten(1, 2), strict=True):
            balanced = [self.mixer(image[piece]) if self.mixer else image[piece] for piece in _pieces(image)]
            # Lowest and highest over flat memory: many times faster than the magnitude's maximum over dimensions.
            ends = torch.stack([torch.stack(torch.aminmax(piece.flatten())) for piece in balanced])
            scales.append(per_image_scale(ends[None, None], self.x_bits, self.clip))
            for piece, values in zip(_pieces(image), balanced, strict=True):
                _write_image_codes(values, scales[-1].flatten(), self.x_bits, out[piece])
        return codes.permute(0, 3, 1, 2), torch.cat(scales)

    def __call__(self, x: Tensor) -> Tensor:
        codes, scales = self.codes(x)
        # One call an image, its scale inside the weight's: the product needs no further pass, and every oneDNN
        # kernel rounds as the reference does (given both scales, they multiply in different orders).
        products = [
            torch.ops.onednn.qconv_pointwise(
                codes[i : i + 1], 1.0, self.zero_point, self.weight, self.scale * scale.flatten(), self.zeros,
                self.bias, self.stride, self.padding, [1, 1], 1, 1.0, 0, _write_dtype(x), "none", [], "",
            )
            for i, scale in enumerate(scales)
        ]  # fmt: skip
        return (products[0] if len(products) == 1 else torch.cat(products)).to(x.dtype)
