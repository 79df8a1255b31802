"""One layer in low bits, at any balance and range of codes: its output error, and itself (DESIGN.md 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.bitpack import pack
from ..kernels.hadamard import Rotation, rotate
from ..kernels.quantize import ASYMMETRIC_BITS, dequantize, per_image_scale, per_token_scale, quantize
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, empty_like
from ..types import BITS, LayerFormat, QuantConfig
from .balanced_weight import UNBALANCED, Balance, BalancedWeight, maxmin_scale
from .branch import refit_down
from .compensate import compensated_codes
from .observe import ChannelStatistics, rows_of
from .rounding_sample import sample_rows

_TOKENS = 1024  # rows of a linear's input that a search looks at
_MEASURED = {BITS.start: 0.0, 4: 0.0, 6: 0.8, 8: 1.0}  # width: the least clipping ratio that can pay off there
_IMAGES = 2  # of a convolution's input that a search looks at: more is slower and hardly better
_STRIP = 64  # rows of an image that are balanced at once
_WINDOW = 128  # pixels, side of the window of a convolution's input that a search looks at


@dataclass(frozen=True)
class ActivationRange:
    """Where a layer's activation codes lie (DESIGN.md section 3.2)."""

    clip: float = 1.0
    below: float | None = None  # share of all codes that are below zero; None = symmetric, one code fewer

    def zero_point(self, bits: int) -> int | None:
        """At a width; None also where it is too wide for one."""
        return None if self.below is None or bits > ASYMMETRIC_BITS else round(self.below * 2**bits)


FULL_RANGE = ActivationRange()


class LayerSearch:
    """One layer's weight and a sample of its input."""

    def __init__(
        self,
        layer: Layer,
        fmt: LayerFormat,
        statistics: ChannelStatistics,
        x: Tensor,
        config: QuantConfig,
        consumers: Tensor | None = None,
    ) -> None:
        """consumers: [O', C, ...] the weights of all layers that balance x together, None = this one's."""
        self.layer, self.fmt, self.config = layer, fmt, config
        self.conv = isinstance(layer, nn.Conv2d) and not fmt.per_pixel
        weight = layer.weight.detach().float()
        if fmt.per_pixel:
            weight = weight.flatten(1)
        consumers = weight if consumers is None else consumers.detach().float()
        self.weight = BalancedWeight(weight, fmt, statistics, config, consumers)
        generator = torch.Generator().manual_seed(fmt.seed)
        x = x.detach().float()
        if isinstance(layer, nn.Conv2d):
            tops = [int(torch.randint(max(1, side - _WINDOW + 1), (1,), generator=generator)) for side in x.shape[2:]]
            self.window = (slice(tops[0], tops[0] + _WINDOW), slice(tops[1], tops[1] + _WINDOW))
        if self.conv:
            # The scale is the whole image's, so the search keeps where the window was cut from.
            self.every, self.whole = x, x[:_IMAGES]
        else:
            self.every = rows = rows_of(layer, x[:, :, self.window[0], self.window[1]] if fmt.per_pixel else x)
            self.whole = rows[torch.randperm(len(rows), generator=generator)[:_TOKENS].to(rows.device)]
        self.exact = self._product(self._cut(self.whole), weight)
        self._largest: dict[Balance, list[Tensor]] = {}  # balanced magnitude of each image
        self._errors: dict[tuple[Balance, ActivationRange], float] = {}
        self._prepared: tuple[Balance, Tensor, Tensor, Tensor, Tensor] | None = None

    def _cut(self, x: Tensor) -> Tensor:
        return x[:, :, self.window[0], self.window[1]] if self.conv else x

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.conv and isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, None, self.layer.stride, self.layer.padding)
        return x @ weight.t()

    def _branch_product(self, x: Tensor, branch: tuple[Tensor, Tensor]) -> Tensor:
        down, up = (t.float() for t in branch)
        low = self._product(x, down)
        return F.conv2d(low, up[:, :, None, None]) if self.conv else low @ up.t()

    def _balanced(self, x: Tensor, balance: Balance) -> Tensor:
        scale, channels = self.weight.channel_scale(balance.exponent), 1 if self.conv else -1
        x = x / (scale[:, None, None] if self.conv else scale)
        return rotate(x, Rotation(len(scale), balance.block, balance.seed), channels)

    def _balanced_sample(self, whole: Tensor, balance: Balance) -> tuple[Tensor, Tensor]:
        """A balanced sample, and what its activation scales are measured on: itself, or each image's largest."""
        if not self.conv:
            sample = self._balanced(whole, balance)
            return sample, sample
        largest = self._largest.setdefault(balance, [])
        for image in whole[len(largest) :]:
            # In strips: at a picture's size a map takes hundreds of megabytes.
            strips = (self._balanced(strip[None], balance) for strip in image.split(_STRIP, 1))
            largest.append(torch.stack([part for strip in strips for part in torch.aminmax(strip)]).abs().max())
        sample = self._balanced(self._cut(whole), balance)
        return sample, torch.stack(largest[: len(whole)]).view(-1, 1, 1, 1)

    def compensated(self, balance: Balance, within: ActivationRange) -> tuple[Tensor, Tensor]:
        """(codes, scale) at the format's width, the codes such that their errors cancel in the output.

        A branch by Fisher information takes up what they leave: the weight's branch from here on.
        """
        codes, scale = self.weight.rounded(balance)
        weight, (x, measured) = self.weight.residual(balance), self._balanced_sample(self.every, balance)
        target = self._product(x, weight)
        inputs = self._rounded_sample(x, measured, self.fmt.activation_bits, within)
        # Apple's GPUs have not all of the factorizations.
        device = x.device if x.device.type == "cuda" else torch.device("cpu")
        sample = sample_rows(self.layer, inputs, target, self.fmt.seed).to(device)
        flat = (weight.flatten(1).to(device), scale.flatten(1).to(device))
        found = compensated_codes(*flat, self.fmt.weight_bits, sample)
        if self.fmt.rank and self.config.branch == "fisher":
            exact = sample_rows(self.layer, x, target, self.fmt.seed).to(device)
            self._refit_branch(balance, dequantize(found, flat[1]), exact.inputs, sample.inputs)
        return found.view_as(codes).to(codes.device), scale

    def _refit_branch(self, balance: Balance, integers: Tensor, x: Tensor, rounded: Tensor) -> None:
        branch = self.weight.branch(balance)
        assert branch is not None
        down, up = branch
        weight = self.weight.balanced(balance).flatten(1)
        fitted = refit_down(weight, integers, down.flatten(1), up, self.weight.metric, x, rounded)
        self.weight.set_branch(balance, fitted.view_as(down).to(down.device), up)

    def error(self, balance: Balance, within: ActivationRange) -> float:
        """Mean squared error of the output over its mean square; what was asked before is known."""
        if (balance, within) not in self._errors:
            self._errors[balance, within] = self._error(balance, within)
        return self._errors[balance, within]

    def _error(self, balance: Balance, within: ActivationRange) -> float:
        if self._prepared is None or self._prepared[0] != balance:
            self._prepare(balance, *self.weight.rounded(balance))
        assert self._prepared
        _, integers, wanted, x, measured = self._prepared
        output = self._product(self._rounded_sample(x, measured, self.fmt.activation_bits, within), integers)
        return self._relative(output - wanted)

    def maxmin_error(self) -> float:
        """As `error`, of MaxMin rounding without balance and branch: what a report compares with."""
        weight, bits = self.weight.weight, self.fmt.weight_bits
        scale = maxmin_scale(weight, bits)
        x = self._rounded_sample(*self._balanced_sample(self.whole, UNBALANCED), self.fmt.activation_bits, FULL_RANGE)
        return self._relative(self._product(x, dequantize(quantize(weight, scale, bits), scale)) - self.exact)

    def _prepare(self, balance: Balance, codes: Tensor, scale: Tensor) -> None:
        """Keep what does not depend on the activations' range: the integers, and what the branch leaves to them."""
        branch, (x, measured) = self.weight.branch(balance), self._balanced_sample(self.whole, balance)
        wanted = self.exact if branch is None else self.exact - self._branch_product(x, branch)
        self._prepared = (balance, dequantize(codes, scale), wanted, x, measured)

    def width_errors(
        self, balance: Balance, ranges: Sequence[ActivationRange]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(weight, activation) error of the output by width, each with the other exact; the best range of each.

        A few widths are measured; those between fall as a constant factor a bit.
        """
        residual, (x, measured) = self.weight.residual(balance), self._balanced_sample(self.whole, balance)
        weights, activations = {}, {}
        for bits, worth in _MEASURED.items():
            change = dequantize(*self.weight.rounded(balance, bits)) - residual
            weights[bits] = self._relative(self._product(x, change))
            # The branch reads what is not rounded: only the residual meets the rounding's error.
            tried = [within for within in ranges if within.clip >= worth]
            changes = (self._rounded_sample(x, measured, bits, within) - x for within in tried)
            activations[bits] = min(self._relative(self._product(c, residual)) for c in changes)
        return _between(weights), _between(activations)

    def _rounded_sample(self, x: Tensor, measured: Tensor, bits: int, within: ActivationRange) -> Tensor:
        measure, zero_point = per_image_scale if self.conv else per_token_scale, within.zero_point(bits)
        steps = measure(measured, bits, within.clip, zero_point)
        return dequantize(quantize(x, steps, bits, zero_point), steps)

    def _relative(self, missed: Tensor) -> float:
        return float(missed.square().mean() / self.exact.square().mean().clamp_min(1e-20))

    def build(self, balance: Balance, within: ActivationRange) -> QuantLayer:
        """The low-bit layer, its tensors in the dtypes of storage; `error` at its balance is its own from here on."""
        zero_point = within.zero_point(self.fmt.activation_bits)
        fmt = replace(self.fmt, clip=within.clip, block=balance.block, seed=balance.seed, zero_point=zero_point)
        compensated = self.config.rounding == "compensated"
        codes, scale = self.compensated(balance, within) if compensated else self.weight.rounded(balance)
        self._errors.clear()
        self._prepare(balance, codes, scale)
        built = empty_like(self.layer, fmt).to(codes.device)
        built.packed = pack(codes, fmt.weight_bits)
        built.weight_scale = scale.flatten()
        built.channel_scale = self.weight.channel_scale(balance.exponent).reciprocal()
        if self.layer.bias is not None:
            built.bias = self.layer.bias.detach().float().clone()
        if branch := self.weight.branch(balance):
            built.set_branch(*branch)
        return built


def _between(measured: dict[int, float]) -> dict[int, float]:
    """Every width's error, from those measured, by geometric interpolation."""
    known = sorted(measured)
    errors = {}
    for bits in BITS:
        low, high = max(b for b in known if b <= bits), min(b for b in known if b >= bits)
        share = (bits - low) / max(high - low, 1)
        errors[bits] = measured[low] ** (1 - share) * measured[high] ** share
    return errors
