"""Low-bit convolutions by oneDNN's integer product.

Three forms give the same integers: the plain convolution; for large 3x3 ones Winograd's (`winograd.py`), in fewer
products; and for an input that is upsampled 2x first (`upsample_conv.py`), four small kernels over the input before
upsampling. Which one pays depends on the input's size, so each is prepacked when it is first needed.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Conv2dSpec
from ..quantize import byte_of_zero, largest_code, per_image_scale
from ..upsample_conv import phase_kernels, phases, window
from .codes import pieces, write_dtype, write_image_codes
from .product import Product
from .saturation import exact
from .winograd import Form, Winograd, WinogradBase, WinogradUpsample, fits


class Conv2d:
    """As `reference.Conv2d`."""

    def __init__(self, spec: Conv2dSpec) -> None:
        self.weight, self.activations = spec.weight, spec.activations
        self.bias, self.transform = spec.bias, spec.transform
        self.stride, self.padding = spec.stride, spec.padding
        bits = spec.activations.bits
        self.zero = byte_of_zero(bits, spec.activations.zero_point)
        # A phase kernel sums up to four codes, which have to fit a byte.
        same = spec.weight.shape[2:] == (3, 3) and spec.stride == spec.padding == (1, 1)
        sums, largest = 4 * largest_code(spec.weight.bits), (1 << bits) - 1
        self.fuses_upsample = same and sums <= largest_code(8) and exact(largest, sums)
        self.transforms = fits(spec.weight.shape, spec.weight.bits, bits, spec.stride)
        # Prepacked now, not at the first call, where the form does not depend on the input.
        if not self.transforms:
            _ = self._phases if spec.fuse_upsample and self.fuses_upsample else self._whole

    @cached_property
    def _whole(self) -> Product:
        return self._product(self.weight.codes())

    @cached_property
    def _winograd(self) -> Winograd | None:
        return self._of_form(Winograd)

    @cached_property
    def _winograd_upsample(self) -> WinogradUpsample | None:
        return self._of_form(WinogradUpsample)

    def _of_form(self, form: type[Form]) -> Form | None:
        bits, _, zero_point = self.activations
        return form.of(self.weight.codes(), self.weight.scale.float(), self.bias, bits, zero_point)

    @cached_property
    def _phases(self) -> list[Product]:
        return [self._product(kernel.to(torch.int8)) for kernel in phase_kernels(self.weight.codes().short())]

    def _product(self, codes: Tensor) -> Product:
        return Product(codes, self.weight.scale.float(), self.bias, self.stride, self.zero)

    def _pays(self, form: type[WinogradBase], padded: Tensor) -> bool:
        return self.transforms and form.pays(padded, self.weight.shape[0])

    def _padded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes with their padding, [B, H + 2 ph, W + 2 pw, C] uint8, and scales [B, 1, 1, 1]."""
        (down, across), maps, scales = self.padding, x.permute(0, 2, 3, 1), []
        batch, height, width, channels = maps.shape
        padded = x.new_empty(batch, height + 2 * down, width + 2 * across, channels, dtype=torch.uint8)
        for edge in (padded[:, :down], padded[:, height + down :]):
            edge.fill_(self.zero)
        for edge in (padded[:, :, :across], padded[:, :, width + across :]):
            edge.fill_(self.zero)
        for image, out in zip(maps, padded[:, down : down + height, across : across + width], strict=True):
            cuts = list(pieces(image))
            balanced = [self.transform(image[cut]) if self.transform else image[cut] for cut in cuts]
            # Minimum and maximum over flat memory: many times faster than the maximum magnitude over dimensions.
            ends = torch.stack([end for piece in balanced for end in torch.aminmax(piece)])
            scales.append(per_image_scale(ends[None, None, None], *self.activations))
            outs = [out[cut] for cut in cuts]
            write_image_codes(balanced, scales[-1].flatten(), self.activations, outs)
        return padded, torch.cat(scales)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [B, C, H, W], offset by `zero`, and per-image scales [B, 1, 1, 1]."""
        padded, scales = self._padded(x)
        (down, across), (height, width) = self.padding, x.shape[2:]
        return padded[:, down : down + height, across : across + width].permute(0, 3, 1, 2), scales

    def __call__(self, x: Tensor) -> Tensor:
        dtype = write_dtype(x)
        products = [
            ((self._pays(Winograd, codes) and self._winograd) or self._whole)(codes, scale, dtype)
            for codes, scale in zip(*self._padded(x), strict=True)
        ]
        y = products[0][None] if len(products) == 1 else torch.stack(products)
        return y.permute(0, 3, 1, 2).to(x.dtype)

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """As `reference.Conv2d.forward_upsampled`, from a quarter of the codes and 4/9 or 1/4 of the products."""
        if not self.fuses_upsample:
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        batch, _, height, width = x.shape
        y = x.new_empty(batch, 2 * height, 2 * width, self.weight.shape[0], dtype=write_dtype(x))
        for codes, scale, image in zip(*self._padded(x), y, strict=True):
            if self._pays(WinogradUpsample, codes) and self._winograd_upsample:
                self._winograd_upsample(codes, scale, y.dtype, image)
                continue
            for number, (product, out) in enumerate(zip(self._phases, phases(image), strict=True)):
                product(window(codes, number), scale, y.dtype, out)
        return y.permute(0, 3, 1, 2).to(x.dtype)
