"""One layer in low bits, at any balance and range of codes: its output error, and itself (DESIGN.md 3.1 to 3.3)."""

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

_SEARCHED = 2048  # rows of a layer's input that a search looks at: rounding looks at more
_MEASURED = {BITS.start: 0.0, 4: 0.0, 6: 0.8, 8: 1.0}  # width: the least clipping ratio that can pay off there


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
        weight = layer.weight.detach().float()
        if fmt.per_pixel:
            weight = weight.flatten(1)
        consumers = weight if consumers is None else consumers.detach().float()
        self.weight = BalancedWeight(weight, fmt, statistics, config, consumers)
        self.sample = sample_input(layer, fmt, x, self.weight.channel_scale)
        self.searched = self.sample.some(_SEARCHED, fmt.seed)
        self.exact = _product(self.searched.rows.flatten(1), weight)
        self._errors: dict[tuple[Balance, ActivationRange], float] = {}
        self._prepared: tuple[Balance, Tensor, Tensor, Tensor, Tensor] | None = None

    def compensated(self, balance: Balance, within: ActivationRange) -> tuple[Tensor, Tensor]:
        """(codes, scale) at the format's width, the codes such that their errors cancel in the output.

        A branch by Fisher information takes up what they leave: the weight's branch from here on.
        """
        codes, scale = self.weight.rounded(balance)
        weight, (x, largest) = self.weight.residual(balance), self.sample.balanced(balance)
        target = _product(x, weight)
        # Apple's GPUs have not all of the factorizations.
        device = x.device if x.device.type == "cuda" else torch.device("cpu")
        rounded = self._rounded(x, largest, self.fmt.activation_bits, within)
        flat = (weight.flatten(1).to(device), scale.flatten(1).to(device))
        sample = RoundingSample(rounded, target).to(device)
        found = compensated_codes(*flat, self.fmt.weight_bits, sample)
        if self.fmt.rank and self.config.branch == "fisher":
            self._refit_branch(balance, dequantize(found, flat[1]), x.to(device), sample.inputs)
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
        _, integers, wanted, x, largest = self._prepared
        output = _product(self._rounded(x, largest, self.fmt.activation_bits, within), integers)
        return self._relative(output - wanted)

    def maxmin_error(self) -> float:
        """As `error`, of MaxMin rounding without balance and branch: what a report compares with."""
        weight, bits = self.weight.weight, self.fmt.weight_bits
        scale = maxmin_scale(weight, bits)
        x = self._rounded(*self.searched.balanced(UNBALANCED), self.fmt.activation_bits, FULL_RANGE)
        return self._relative(_product(x, dequantize(quantize(weight, scale, bits), scale)) - self.exact)

    def _prepare(self, balance: Balance, codes: Tensor, scale: Tensor) -> None:
        """Keep what does not depend on the activations' range: the integers, and what the branch leaves to them."""
        branch, (x, largest) = self.weight.branch(balance), self.searched.balanced(balance)
        wanted = self.exact if branch is None else self.exact - _product(_product(x, branch[0]), branch[1])
        self._prepared = (balance, dequantize(codes, scale), wanted, x, largest)

    def width_errors(
        self, balance: Balance, ranges: Sequence[ActivationRange]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(weight, activation) error of the output by width, each with the other exact; the best range of each.

        A few widths are measured; those between fall as a constant factor a bit.
        """
        residual, (x, largest) = self.weight.residual(balance), self.searched.balanced(balance)
        weights, activations = {}, {}
        for bits, worth in _MEASURED.items():
            change = dequantize(*self.weight.rounded(balance, bits)) - residual
            weights[bits] = self._relative(_product(x, change))
            # The branch reads what is not rounded: only the residual meets the rounding's error.
            tried = [within for within in ranges if within.clip >= worth]
            changes = (self._rounded(x, largest, bits, within) - x for within in tried)
            activations[bits] = min(self._relative(_product(c, residual)) for c in changes)
        return _between(weights), _between(activations)

    def _rounded(self, x: Tensor, largest: Tensor, bits: int, within: ActivationRange) -> Tensor:
        """Rows as the codes stand for them, at scales of magnitudes [N, 1]."""
        zero_point = within.zero_point(bits)
        steps = per_token_scale(largest, bits, within.clip, zero_point)
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


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Outputs [N, O] of rows [N, K] and a weight [O, ...] of as many columns."""
    return x @ weight.flatten(1).float().t()


def _between(measured: dict[int, float]) -> dict[int, float]:
    """Every width's error, from those measured, by geometric interpolation."""
    known = sorted(measured)
    errors = {}
    for bits in BITS:
        low, high = max(b for b in known if b <= bits), min(b for b in known if b >= bits)
        share = (bits - low) / max(high - low, 1)
        errors[bits] = measured[low] ** (1 - share) * measured[high] ** share
    return errors
