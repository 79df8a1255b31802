"""One low-bit layer under any balance and range: its output error, and the layer (docs/method.md, sections 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kernels.bitpack import pack
from ..kernels.quantize import ASYMMETRIC_BITS, dequantize, per_token_scale, quantize
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, empty_like
from ..types import BITS, LayerFormat, QuantConfig
from .balanced_weight import UNBALANCED, Balance, BalancedWeight, maxmin_scale
from .branch import refit_down
from .compensate import RoundingSample, compensated_codes
from .input_sample import sample_input
from .observe import ChannelStatistics

_SEARCHED = 2048  # rows of a layer's input that the search uses; rounding uses more
_MEASURED = {BITS.start: 0.0, 4: 0.0, 6: 0.8, 8: 1.0}  # width: the smallest clipping ratio that can pay off


@dataclass(frozen=True)
class ActivationRange:
    """The range of a layer's activation codes (docs/method.md, section 3)."""

    clip: float = 1.0
    zero_point_share: float | None = None  # of all codes, those that lie below zero; None = symmetric, one code fewer

    def zero_point(self, bits: int) -> int | None:
        """The zero point at a width; None = symmetric, as at widths too large for one."""
        share = self.zero_point_share
        return None if share is None or bits > ASYMMETRIC_BITS else round(share * 2**bits)


FULL_RANGE = ActivationRange()


@dataclass(frozen=True)
class _RoundedWeight:
    """A layer's weight in low-bit form at one balance."""

    codes: Tensor  # [O, C, ...] int8
    scale: Tensor  # [O, 1, ...] float32
    branch: tuple[Tensor, Tensor] | None  # as stored


@dataclass(frozen=True)
class _Comparison:
    """What a layer's output error at one balance is measured on, at any activation range."""

    balance: Balance
    integers: Tensor  # [O, C, ...] float32, the dequantized weight
    wanted: Tensor  # [N, O] float32, the exact output without the branch's share
    rows: Tensor  # [N, K] float32, the balanced input
    largest: Tensor  # [N, 1] float32, the magnitudes that set activation scales


class LayerSearch:
    """One layer's weight and a sample of its input, to try balances and ranges on."""

    def __init__(
        self,
        layer: Layer,
        fmt: LayerFormat,
        statistics: ChannelStatistics,
        x: Tensor,
        config: QuantConfig,
        consumers: Tensor | None = None,
    ) -> None:
        """consumers: [O', C, ...], the weights of all layers that share one balance of x; None = this layer's."""
        self.layer, self.fmt, self.config = layer, fmt, config
        weight = layer.weight.detach().float()
        if fmt.per_pixel:
            weight = weight.flatten(1)
        consumers = weight if consumers is None else consumers.detach().float()
        self.weight = BalancedWeight(weight, fmt, statistics, config, consumers)
        self.sample = sample_input(layer, fmt, x, self.weight.channel_scale)
        self.searched = self.sample.subset(_SEARCHED, fmt.seed)
        self.exact = _product(self.searched.rows.flatten(1), weight)
        self._errors: dict[tuple[Balance, ActivationRange], float] = {}
        self._comparison: _Comparison | None = None  # of the last balance

    def error(self, balance: Balance, activation_range: ActivationRange) -> float:
        """Output error with the weight rounded to nearest: MSE over the exact output's mean square; cached."""
        key = balance, activation_range
        if key not in self._errors:
            if self._comparison is None or self._comparison.balance != balance:
                self._comparison = self._compare(balance, self._nearest(balance))
            self._errors[key] = self._error(self._comparison, activation_range)
        return self._errors[key]

    def _nearest(self, balance: Balance) -> _RoundedWeight:
        return _RoundedWeight(*self.weight.rounded(balance), self.weight.branch(balance))

    def _compensated(self, balance: Balance, activation_range: ActivationRange) -> _RoundedWeight:
        """Codes whose errors cancel in the output; a Fisher branch is refitted to absorb the error they leave."""
        _, scale = self.weight.rounded(balance)
        weight, (x, largest) = self.weight.residual(balance), self.sample.balanced(balance)
        target = _product(x, weight)
        # Apple's GPUs lack some of the factorizations.
        device = x.device if x.device.type == "cuda" else torch.device("cpu")
        rounded = self._rounded(x, largest, self.fmt.activation_bits, activation_range)
        flat = (weight.flatten(1).to(device), scale.flatten(1).to(device))
        sample = RoundingSample(rounded, target).to(device)
        found = compensated_codes(*flat, self.fmt.weight_bits, sample)
        branch = self.weight.branch(balance)
        if branch is not None and self.config.branch == "fisher":
            branch = self._refitted(balance, branch, dequantize(found, flat[1]), x.to(device), sample.inputs)
        return _RoundedWeight(found.view_as(weight).to(weight.device), scale, branch)

    def _refitted(
        self, balance: Balance, branch: tuple[Tensor, Tensor], integers: Tensor, x: Tensor, rounded: Tensor
    ) -> tuple[Tensor, Tensor]:
        down, up = branch
        weight = self.weight.balanced(balance).flatten(1)
        fitted = refit_down(weight, integers, down.flatten(1), up, self.weight.metric, x, rounded)
        return self.weight.stored(fitted.view_as(down).to(down.device), up)

    def _compare(self, balance: Balance, weight: _RoundedWeight) -> _Comparison:
        rows, largest = self.searched.balanced(balance)
        wanted = self.exact
        if weight.branch is not None:
            down, up = weight.branch
            wanted = wanted - _product(_product(rows, down), up)
        return _Comparison(balance, dequantize(weight.codes, weight.scale), wanted, rows, largest)

    def _error(self, on: _Comparison, activation_range: ActivationRange) -> float:
        rounded = self._rounded(on.rows, on.largest, self.fmt.activation_bits, activation_range)
        return self._relative(_product(rounded, on.integers) - on.wanted)

    def maxmin_error(self) -> float:
        """As `error`, for MaxMin rounding without balance and branch: the baseline in reports."""
        weight, bits = self.weight.weight, self.fmt.weight_bits
        scale = maxmin_scale(weight, bits)
        x = self._rounded(*self.searched.balanced(UNBALANCED), self.fmt.activation_bits, FULL_RANGE)
        return self._relative(_product(x, dequantize(quantize(weight, scale, bits), scale)) - self.exact)

    def width_errors(
        self, balance: Balance, ranges: Sequence[ActivationRange]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(weight, activation) output errors by width, each with the other exact; activations' at the best range.

        A few widths are measured; between them the error is taken to fall by a constant factor per bit.
        """
        residual, (x, largest) = self.weight.residual(balance), self.searched.balanced(balance)
        weights, activations = {}, {}
        for bits, worth in _MEASURED.items():
            change = dequantize(*self.weight.rounded(balance, bits)) - residual
            weights[bits] = self._relative(_product(x, change))
            # The branch reads the unrounded input: rounding errors only reach the residual.
            tried = [activation_range for activation_range in ranges if activation_range.clip >= worth]
            changes = (self._rounded(x, largest, bits, activation_range) - x for activation_range in tried)
            activations[bits] = min(self._relative(_product(c, residual)) for c in changes)
        return _between(weights), _between(activations)

    def _rounded(self, x: Tensor, largest: Tensor, bits: int, activation_range: ActivationRange) -> Tensor:
        """Rows [N, K] quantized and dequantized, at scales from the largest magnitudes [N, 1]."""
        zero_point = activation_range.zero_point(bits)
        steps = per_token_scale(largest, bits, activation_range.clip, zero_point)
        return dequantize(quantize(x, steps, bits, zero_point), steps)

    def _relative(self, missed: Tensor) -> float:
        return float(missed.square().mean() / self.exact.square().mean().clamp_min(1e-20))

    def build(self, balance: Balance, activation_range: ActivationRange) -> tuple[QuantLayer, float]:
        """The low-bit layer, its tensors in storage dtypes, and its output error, relative as `error`'s."""
        zero_point = activation_range.zero_point(self.fmt.activation_bits)
        fmt = replace(
            self.fmt, clip=activation_range.clip, block=balance.block, seed=balance.seed, zero_point=zero_point
        )
        compensated = self.config.rounding == "compensated"
        weight = self._compensated(balance, activation_range) if compensated else self._nearest(balance)
        built = empty_like(self.layer, fmt).to(weight.codes.device)
        built.packed = pack(weight.codes, fmt.weight_bits)
        built.weight_scale = weight.scale.flatten()
        built.channel_scale = self.weight.channel_scale(balance.exponent).reciprocal()
        if self.layer.bias is not None:
            built.bias = self.layer.bias.detach().float().clone()
        if weight.branch is not None:
            built.set_branch(*weight.branch)
        return built, self._error(self._compare(balance, weight), activation_range)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Outputs [N, O] of rows [N, K] and a weight [O, ...] with K values per output."""
    return x @ weight.flatten(1).float().t()


def _between(measured: dict[int, float]) -> dict[int, float]:
    """The error at every width, interpolated geometrically between the measured ones."""
    known = sorted(measured)
    errors = {}
    for bits in BITS:
        low, high = max(b for b in known if b <= bits), min(b for b in known if b >= bits)
        share = (bits - low) / max(high - low, 1)
        errors[bits] = measured[low] ** (1 - share) * measured[high] ** share
    return errors
