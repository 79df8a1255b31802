"""A weight at any balance: branch and integers add up to it, and are found once."""

from __future__ import annotations

import pytest
import torch

import quantface_core as qf
from quantface_core.kernels.balance import branch_weight, channel_scale, in_metric, stored_values
from quantface_core.kernels.quantize import dequantize
from quantface_core.quant import balanced_weight
from quantface_core.quant.balanced_weight import UNBALANCED, Balance, BalancedWeight
from quantface_core.quant.observe import ChannelStatistics
from quantface_core.types import BRANCH_BITS, LayerFormat

BALANCES = (UNBALANCED, Balance(0.5, 16, 3))


def balanced_weight_of(shape: tuple[int, ...], branch_bits: int = 8, fisher: bool = True) -> BalancedWeight:
    generator = torch.Generator().manual_seed(0)
    weight, mix = torch.randn(shape, generator=generator), torch.randn(shape[0], shape[0], generator=generator)
    largest = torch.rand(shape[1], generator=generator) + 0.1
    statistics = ChannelStatistics(largest, (mix @ mix.t()).half() if fisher else None)
    return BalancedWeight(
        weight, LayerFormat(4, 4, rank=4, branch_bits=branch_bits), statistics, qf.QuantConfig(), weight
    )


@pytest.mark.parametrize("fisher", [True, False])
@pytest.mark.parametrize("branch_bits", BRANCH_BITS)
@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 3, 3)])
@pytest.mark.parametrize("balance", BALANCES)
def test_branch_and_residual_are_the_weight(
    shape: tuple[int, ...], branch_bits: int, fisher: bool, balance: Balance
) -> None:
    one = balanced_weight_of(shape, branch_bits, fisher)
    down, up = one.branch(balance)
    assert (down.shape, up.shape, down.dtype) == ((4, *shape[1:]), (24, 4), torch.float16)
    torch.testing.assert_close(one.residual(balance) + branch_weight(down, up), one.balanced(balance))
    left = dequantize(*one.rounded(balance)) - one.residual(balance)
    assert left.norm() < 0.2 * one.residual(balance).norm()


@pytest.mark.parametrize("fisher", [True, False])
@pytest.mark.parametrize("branch_bits", BRANCH_BITS)
@pytest.mark.parametrize("balance", BALANCES)
def test_the_residual_is_the_least_that_a_branch_can_leave(branch_bits: int, fisher: bool, balance: Balance) -> None:
    one = balanced_weight_of((24, 32), branch_bits, fisher)
    root = torch.eye(24) if one.metric is None else one.metric
    least = torch.linalg.svdvals(in_metric(one.balanced(balance), root))[4:].norm()
    assert in_metric(one.residual(balance), root).norm() < 1.02 * least


@pytest.mark.parametrize("branch_bits", BRANCH_BITS)
def test_a_branch_has_the_values_that_are_stored(branch_bits: int) -> None:
    float_halves = balanced_weight_of((24, 32), 16).branch(UNBALANCED)
    for half, float_half in zip(
        balanced_weight_of((24, 32), branch_bits).branch(UNBALANCED), float_halves, strict=True
    ):
        assert torch.equal(half, stored_values(half, branch_bits))
        assert torch.equal(half, float_half) == (branch_bits == 16)


def test_layers_that_share_an_input_share_a_channel_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    consumers = torch.randn(32, 32, generator=generator) * torch.linspace(1, 9, 32)[:, None]
    largest = torch.rand(32, generator=generator) + 0.1
    for part in consumers.split([24, 8]):
        one = BalancedWeight(part, LayerFormat(4, 4), ChannelStatistics(largest), qf.QuantConfig(), consumers)
        torch.testing.assert_close(one.channel_scale(0.5), channel_scale(largest, consumers, 0.5))


def test_what_is_found_at_a_balance_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, calls = balanced_weight_of((24, 32)), []
    for name in ("low_rank", "per_channel_scale"):
        exact = getattr(balanced_weight, name)
        monkeypatch.setattr(
            balanced_weight, name, lambda *a, exact=exact, name=name: (calls.append(name), exact(*a))[1]
        )
    first = [one.rounded(balance) for balance in BALANCES]
    again = [one.rounded(balance) for balance in BALANCES]
    assert sorted(calls) == ["low_rank"] * 2 + ["per_channel_scale"] * 2
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
