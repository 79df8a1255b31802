"""A layer's weight under any balance: low-rank branch and codes of the residual (docs/method.md, sections 2, 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.balance import (
    branch_weight,
    channel_scale,
    from_metric,
    in_metric,
    low_rank,
    per_row,
    stored_values,
)
from ..kernels.hadamard import Rotation, rotate
from ..kernels.quantize import largest_code, per_channel_scale, quantize
from ..types import LayerFormat, QuantConfig
from .fisher import metric_root
from .observe import ChannelStatistics


@dataclass(frozen=True)
class Balance:
    """How a layer's channels are balanced before rounding: scaling, then rotation (docs/method.md, section 2)."""

    exponent: float | None  # of the channel scaling; None = no scaling
    block: int  # of the rotation; 1 = no rotation
    seed: int  # of the rotation's signs


UNBALANCED = Balance(None, 1, 0)


class BalancedWeight:
    """A weight [O, C, ...]; each balance's branch and scales are cached, because searches return to a balance.

    consumers: [O', C, ...], the weights of all layers that share one balance of their input.
    """

    def __init__(
        self, weight: Tensor, fmt: LayerFormat, statistics: ChannelStatistics, config: QuantConfig, consumers: Tensor
    ) -> None:
        self.weight, self._format, self._clipping = weight, fmt, config.clipping
        # Channel scales depend on the consumers' weights only through each channel's largest magnitude.
        self._largest, self._consumers = statistics.largest, consumers.abs().transpose(0, 1).flatten(1).amax(1)[None]
        fisher = statistics.fisher if config.branch == "fisher" and fmt.rank else None
        self.metric = None if fisher is None else metric_root(fisher).to(weight.device)
        # Balancing acts on channels and the metric on outputs, so the two commute.
        self._in_metric = weight if self.metric is None else in_metric(weight, self.metric)
        self._channel_scales: dict[float, Tensor] = {}
        self._branches: dict[Balance, tuple[Tensor, Tensor]] = {}
        self._scales: dict[tuple[Balance, int], Tensor] = {}
        self._residual: tuple[Balance, Tensor] | None = None

    def channel_scale(self, exponent: float | None) -> Tensor:
        """The channel scale s, [C] float32; ones without scaling."""
        if exponent is None:
            return torch.ones_like(self._largest)
        if exponent not in self._channel_scales:
            self._channel_scales[exponent] = channel_scale(self._largest, self._consumers, exponent)
        return self._channel_scales[exponent]

    def balanced(self, balance: Balance) -> Tensor:
        """The weight after scaling and rotation, [O, C, ...] float32."""
        return self._balanced(self.weight, balance)

    def _balanced(self, weight: Tensor, balance: Balance) -> Tensor:
        scale = per_row(self.channel_scale(balance.exponent), weight[0])
        return rotate(weight * scale, Rotation(weight.shape[1], balance.block, balance.seed), 1)

    def branch(self, balance: Balance) -> tuple[Tensor, Tensor] | None:
        """(down [rank, C, ...], up [O, rank]) float16, as stored; None without a branch."""
        if not self._format.rank:
            return None
        if balance not in self._branches:
            down, up = low_rank(self._balanced(self._in_metric, balance), self._format.rank, self._format.seed)
            up = up if self.metric is None else from_metric(up, self.metric)
            self._branches[balance] = self.stored(down, up)
        return self._branches[balance]

    def stored(self, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """A branch as the format stores it, float16."""
        return stored_values(down, self._format.branch_bits), stored_values(up, self._format.branch_bits)

    def residual(self, balance: Balance) -> Tensor:
        """What is rounded: the balanced weight minus its branch, [O, C, ...] float32. The last balance's is cached."""
        if self._residual is None or self._residual[0] != balance:
            weight, branch = self.balanced(balance), self.branch(balance)
            self._residual = balance, weight if branch is None else weight - branch_weight(*branch)
        return self._residual[1]

    def rounded(self, balance: Balance, bits: int | None = None) -> tuple[Tensor, Tensor]:
        """(codes [O, C, ...] int8, scale [O, 1, ...] float32) of the residual, at the format's width or `bits`."""
        bits, weight = bits or self._format.weight_bits, self.residual(balance)
        if (balance, bits) not in self._scales:
            self._scales[balance, bits] = (per_channel_scale if self._clipping else maxmin_scale)(weight, bits)
        scale = self._scales[balance, bits]
        return quantize(weight, scale, bits), scale


def maxmin_scale(weight: Tensor, bits: int) -> Tensor:
    """Per-channel absmax scales, which clip nothing: [O, C, ...] -> [O, 1, ...]."""
    largest = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest_code(bits)
    return per_row(largest, weight)
