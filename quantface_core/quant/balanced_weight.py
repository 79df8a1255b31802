"""A layer's weight at any balance: what its branch keeps, and the integers of what that leaves (DESIGN.md 3.1, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.balance import channel_scale, from_metric, in_metric, low_rank, stored_values
from ..kernels.hadamard import Rotation, rotate
from ..kernels.quantize import largest_code, per_channel_scale, quantize
from ..types import LayerFormat, QuantConfig
from .fisher import metric_root
from .observe import ChannelStatistics


@dataclass(frozen=True)
class Balance:
    """How a layer's channels are balanced before they are rounded (DESIGN.md section 3.1)."""

    exponent: float | None  # of the scaling; None = not scaled
    block: int  # of the rotation; 1 = not rotated
    seed: int  # of its signs


UNBALANCED = Balance(None, 1, 0)


class BalancedWeight:
    """A weight [O, C, ...]; each balance's branch and scales are kept, for searches come back to a balance.

    consumers: [O', C, ...] the weights of all layers that balance their input together.
    """

    def __init__(
        self, weight: Tensor, fmt: LayerFormat, statistics: ChannelStatistics, config: QuantConfig, consumers: Tensor
    ) -> None:
        self.weight, self._format, self._clipping = weight, fmt, config.clipping
        # All that scales ask of the weights.
        self._largest, self._consumers = statistics.largest, consumers.abs().transpose(0, 1).flatten(1).amax(1)[None]
        fisher = statistics.fisher if config.branch == "fisher" and fmt.rank else None
        self.metric = None if fisher is None else metric_root(fisher).to(weight.device)
        # Balancing acts on channels, the metric on outputs: in either order.
        self._in_metric = weight if self.metric is None else in_metric(weight, self.metric)
        self._branches: dict[Balance, tuple[Tensor, Tensor]] = {}
        self._scales: dict[tuple[Balance, int], Tensor] = {}
        self._residual: tuple[Balance, Tensor] | None = None

    def channel_scale(self, exponent: float | None) -> Tensor:
        """s, [C]; ones without scaling."""
        if exponent is None:
            return torch.ones_like(self._largest)
        return channel_scale(self._largest, self._consumers, exponent)

    def balanced(self, balance: Balance) -> Tensor:
        return self._balanced(self.weight, balance)

    def _balanced(self, weight: Tensor, balance: Balance) -> Tensor:
        scale = self.channel_scale(balance.exponent).view(-1, *[1] * (weight.ndim - 2))
        return rotate(weight * scale, Rotation(weight.shape[1], balance.block, balance.seed), 1)

    def branch(self, balance: Balance) -> tuple[Tensor, Tensor] | None:
        """(down [rank, C, ...], up [O, rank]) float16; None without one."""
        if not self._format.rank:
            return None
        if balance not in self._branches:
            down, up = low_rank(self._balanced(self._in_metric, balance), self._format.rank, self._format.seed)
            up = up if self.metric is None else from_metric(up, self.metric)
            self.set_branch(balance, down, up)
        return self._branches[balance]

    def set_branch(self, balance: Balance, down: Tensor, up: Tensor) -> None:
        """Another branch at a balance, rounded to what the format stores; scales found there stay."""
        down, up = (stored_values(half, self._format.branch_bits) for half in (down, up))
        self._branches[balance], self._residual = (down, up), None

    def residual(self, balance: Balance) -> Tensor:
        """What is to be rounded: the balanced weight less its branch. The last balance's is kept."""
        if self._residual is None or self._residual[0] != balance:
            weight, branch = self.balanced(balance), self.branch(balance)
            self._residual = balance, weight if branch is None else weight - product_of(*branch)
        return self._residual[1]

    def rounded(self, balance: Balance, bits: int | None = None) -> tuple[Tensor, Tensor]:
        """(codes, scale [O, 1, ...]) of what the branch leaves, at the format's width or another."""
        bits, weight = bits or self._format.weight_bits, self.residual(balance)
        if (balance, bits) not in self._scales:
            self._scales[balance, bits] = (per_channel_scale if self._clipping else maxmin_scale)(weight, bits)
        scale = self._scales[balance, bits]
        return quantize(weight, scale, bits), scale


def maxmin_scale(weight: Tensor, bits: int) -> Tensor:
    """Weight scales that clip nothing: [O, C, ...] -> [O, 1, ...]."""
    largest = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest_code(bits)
    return largest.view(-1, *[1] * (weight.ndim - 1))


def product_of(down: Tensor, up: Tensor) -> Tensor:
    """A branch as one weight [O, C, ...] float32."""
    return (up.float() @ down.flatten(1).float()).view(len(up), *down.shape[1:])
