"""One layer in low bits, at any balance and range of codes: its output error, and itself (DESIGN.md 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.balance import channel_scale, low_rank
from ..kernels.bitpack import pack
from ..kernels.hadamard import Rotation, rotate
from ..kernels.quantize import (
    ASYMMETRIC_BITS,
    dequantize,
    largest_code,
    per_channel_scale,
    per_image_scale,
    per_token_scale,
    quantize,
)
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, empty_like
from ..types import BITS, LayerFormat, QuantConfig
from .branch import refit_down
from .compensate import compensated_codes
from .fisher import metric_root
from .observe import ChannelStatistics, rows_of
from .rounding_sample import sample_rows

_TOKENS = 1024  # rows of a linear's input that a search looks at
_MEASURED = {BITS.start: 0.0, 4: 0.0, 6: 0.8, 8: 1.0}  # width: the least clipping ratio that can pay off there
_IMAGES = 2  # of a convolution's input that a search looks at: more is slower and hardly better
_WINDOW = 128  # pixels, side of the window of a convolution's input that a search looks at


@dataclass(frozen=True)
class Balance:
    """How a layer's channels are balanced before they are rounded (DESIGN.md section 3.1)."""

    exponent: float | None  # of the scaling; None = not scaled
    block: int  # of the rotation; 1 = not rotated
    seed: int  # of its signs


UNBALANCED = Balance(None, 1, 0)


@dataclass(frozen=True)
class ActivationRange:
    """Where a layer's activation codes lie (DESIGN.md section 3.2)."""

    clip: float = 1.0
    below: float | None = None  # share of all codes that are below zero; None = symmetric, one code fewer

    def zero_point(self, bits: int) -> int | None:
        """At a width; None also where it is too wide for one."""
        return None if self.below is None or bits > ASYMMETRIC_BITS else round(self.below * 2**bits)


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
        self.layer, self.fmt, self.statistics, self.config = layer, fmt, statistics, config
        self.conv = isinstance(layer, nn.Conv2d) and not fmt.per_pixel
        self.weight = layer.weight.detach().float()
        if fmt.per_pixel:
            self.weight = self.weight.flatten(1)
        self.consumers = self.weight if consumers is None else consumers.detach().float()
        fisher = statistics.fisher if config.branch == "fisher" and fmt.rank else None
        self.metric = None if fisher is None else metric_root(fisher).to(self.weight.device)
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
        self.sample = self._cut(self.whole)
        self.exact = self._product(self.sample, self.weight)
        self.parts: tuple[Balance, Tensor, Tensor | None, Tensor | None] | None = None
        self.prepared: tuple[Balance, Tensor, Tensor, Tensor, Tensor] | None = None

    def _cut(self, x: Tensor) -> Tensor:
        return x[:, :, self.window[0], self.window[1]] if self.conv else x

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.conv and isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, None, self.layer.stride, self.layer.padding)
        return x @ weight.t()

    def scale(self, exponent: float | None) -> Tensor:
        """s, [C]; ones without scaling."""
        if exponent is None:
            return torch.ones_like(self.statistics.largest)
        return channel_scale(self.statistics.largest, self.consumers, exponent)

    def _by_channel(self, vector: Tensor) -> Tensor:
        return vector[:, None, None] if self.conv else vector

    def balanced(self, x: Tensor, balance: Balance) -> Tensor:
        return self._rotated(x / self._by_channel(self.scale(balance.exponent)), balance, 1 if self.conv else -1)

    def _rotated(self, x: Tensor, balance: Balance, dim: int) -> Tensor:
        return rotate(x, Rotation(self.weight.shape[1], balance.block, balance.seed), dim)

    def _balanced_sample(self, whole: Tensor, balance: Balance) -> tuple[Tensor, Tensor]:
        """A balanced sample, and what its activation scales are measured on: itself, or each image's largest."""
        if not self.conv:
            sample = self.balanced(whole, balance)
            return sample, sample
        # One image at a time, of which little is kept: at a picture's size a map takes hundreds of megabytes.
        samples, largest = [], []
        for image in whole.split(1):
            balanced = self.balanced(image, balance)
            samples.append(self._cut(balanced).clone())
            largest.append(torch.stack(torch.aminmax(balanced)).abs().max())
        return torch.cat(samples), torch.stack(largest).view(-1, 1, 1, 1)

    def split(self, balance: Balance) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(what is to be rounded, down, up) of the balanced weight; the last balance's is kept."""
        if self.parts is None or self.parts[0] != balance:
            weight = self._rotated(self.weight * self._by_channel(self.scale(balance.exponent)), balance, 1)
            down = up = None
            if self.fmt.rank:
                down, up = (t.half() for t in low_rank(weight, self.fmt.rank, self.fmt.seed, self.metric))
                weight = weight - _product_of(down, up, weight)
            self.parts = (balance, weight, down, up)
        return self.parts[1:]

    def rounded(self, balance: Balance, bits: int | None = None) -> tuple[Tensor, Tensor]:
        """(codes, scale) of what the branch leaves, at the format's width or another."""
        bits, weight = bits or self.fmt.weight_bits, self.split(balance)[0]
        if self.config.clipping:
            scale = per_channel_scale(weight, bits)
        else:
            largest = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest_code(bits)
            scale = largest.view(-1, *[1] * (weight.ndim - 1))
        return quantize(weight, scale, bits), scale

    def compensated(self, balance: Balance, within: ActivationRange) -> tuple[Tensor, Tensor]:
        """As `rounded` at the format's width, the codes such that their errors cancel in the output.

        A branch by Fisher information takes up what they leave: `split` gives it from here on.
        """
        codes, scale = self.rounded(balance)
        weight, (x, measured) = self.split(balance)[0], self._balanced_sample(self.every, balance)
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
        residual, down, up = self.split(balance)
        assert down is not None
        assert up is not None
        weight = residual + _product_of(down, up, residual)
        fitted = refit_down(weight.flatten(1), integers, down.flatten(1), up, self.metric, x, rounded)
        down = fitted.view_as(down).to(down)
        self.parts = (balance, weight - _product_of(down, up, weight), down, up)

    def error(self, balance: Balance, within: ActivationRange) -> float:
        """Mean squared error of the output over its mean square."""
        if self.prepared is None or self.prepared[0] != balance:
            self._prepare(balance, *self.rounded(balance))
        assert self.prepared
        _, weight, branch_weight, x, measured = self.prepared
        output = self._product(self._rounded_sample(x, measured, self.fmt.activation_bits, within), weight)
        if branch_weight.ndim:
            output = output + self._product(x, branch_weight)
        return self._relative(output)

    def _prepare(self, balance: Balance, codes: Tensor, scale: Tensor) -> None:
        _, down, up = self.split(balance)
        branch = torch.as_tensor(0.0 if down is None or up is None else _product_of(down, up, codes))
        self.prepared = (balance, dequantize(codes, scale), branch, *self._balanced_sample(self.whole, balance))

    def width_errors(
        self, balance: Balance, ranges: Sequence[ActivationRange]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(weight, activation) error of the output by width, each with the other exact; the best range of each.

        A few widths are measured; those between fall as a constant factor a bit.
        """
        residual, (x, measured) = self.split(balance)[0], self._balanced_sample(self.whole, balance)
        weights, activations = {}, {}
        for bits, worth in _MEASURED.items():
            change = dequantize(*self.rounded(balance, bits)) - residual
            weights[bits] = self._relative(self.exact + self._product(x, change))
            # The branch reads what is not rounded: only the residual meets the rounding's error.
            tried = [within for within in ranges if within.clip >= worth]
            changes = (self._rounded_sample(x, measured, bits, within) - x for within in tried)
            activations[bits] = min(self._relative(self.exact + self._product(c, residual)) for c in changes)
        return _between(weights), _between(activations)

    def _rounded_sample(self, x: Tensor, measured: Tensor, bits: int, within: ActivationRange) -> Tensor:
        measure, zero_point = per_image_scale if self.conv else per_token_scale, within.zero_point(bits)
        steps = measure(measured, bits, within.clip, zero_point)
        return dequantize(quantize(x, steps, bits, zero_point), steps)

    def _relative(self, output: Tensor) -> float:
        return float((output - self.exact).square().mean() / self.exact.square().mean().clamp_min(1e-20))

    def build(self, balance: Balance, within: ActivationRange) -> QuantLayer:
        """The low-bit layer, its tensors in the dtypes of storage; `error` at its balance is its own from here on."""
        zero_point = within.zero_point(self.fmt.activation_bits)
        fmt = replace(self.fmt, clip=within.clip, block=balance.block, seed=balance.seed, zero_point=zero_point)
        compensated = self.config.rounding == "compensated"
        codes, scale = self.compensated(balance, within) if compensated else self.rounded(balance)
        _, down, up = self.split(balance)
        self._prepare(balance, codes, scale)
        built = empty_like(self.layer, fmt).to(self.weight.device)
        built.packed = pack(codes, fmt.weight_bits)
        built.weight_scale = scale.flatten()
        built.channel_scale = self.scale(balance.exponent).reciprocal()
        if self.layer.bias is not None:
            built.bias = self.layer.bias.detach().float().clone()
        if down is not None and up is not None:
            # Contiguous, as a file will hold them: strides choose the order in which a product adds.
            built.down, built.up = down.contiguous(), up.contiguous()
        return built


def _product_of(down: Tensor, up: Tensor, like: Tensor) -> Tensor:
    """The branch as one weight."""
    return (up.float() @ down.flatten(1).float()).view_as(like)


def _between(measured: dict[int, float]) -> dict[int, float]:
    """Every width's error, from those measured, by geometric interpolation."""
    known = sorted(measured)
    errors = {}
    for bits in BITS:
        low, high = max(b for b in known if b <= bits), min(b for b in known if b >= bits)
        share = (bits - low) / max(high - low, 1)
        errors[bits] = measured[low] ** (1 - share) * measured[high] ** share
    return errors
