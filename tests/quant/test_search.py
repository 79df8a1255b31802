"""Searches for a layer's balance and clip: what they choose is what its output is nearest with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.balanced_weight import Balance
from quantface_core.quant.layer_search import ActivationRange, LayerSearch
from quantface_core.quant.observe import calibrate
from quantface_core.quant.quantize import plan_formats
from quantface_core.quant.search import CLIPS, EXPONENTS, ZERO_POINT_SHARES, search

CONFIG = qf.QuantConfig(rank=0)


def layer_and_rows(one_sided: bool = False) -> tuple[nn.Sequential, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 64, generator=generator)
    if one_sided:  # a few channels speak at a time: a rotation would spread them over all
        x = x * (torch.rand(x.shape, generator=generator) > 0.97)
    model = nn.Sequential(nn.Linear(64, 32))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(32, 64, generator=generator))
    return model.eval().requires_grad_(False), x


def searched(model: nn.Sequential, x: torch.Tensor, config: qf.QuantConfig) -> LayerSearch:
    statistics = calibrate(model, [x])
    return LayerSearch(model[0], plan_formats(model, config)["0"], statistics["0"], x, config)


def test_nothing_that_was_looked_at_is_better() -> None:
    one = searched(*layer_and_rows(), CONFIG)
    balance, chosen = search([one], CONFIG)
    least = one.error(balance, chosen)
    assert all(least <= one.error(balance, replace(chosen, clip=clip)) for clip in CLIPS)
    assert least <= min(one.error(replace(balance, exponent=e), chosen) for e in EXPONENTS) * 1.05
    assert all(least <= one.error(replace(balance, block=1), ActivationRange(c, 0.5)) for c in CLIPS)


def test_one_sided_inputs_get_most_codes_on_their_side() -> None:
    model, x = layer_and_rows()
    x, config = nn.functional.silu(x * 3), replace(CONFIG, weight_bits=8)  # weights without an error to speak of
    balance, chosen = search([searched(model, x, config)], config)
    assert balance.block == 1
    assert chosen.zero_point_share in ZERO_POINT_SHARES[2:]
    built, _ = searched(model, x, config).build(balance, chosen)
    assert built.format.zero_point == round(chosen.zero_point_share * 16)
    without = replace(config, search_zero_point=False)
    symmetric = searched(model, x, without)
    balance, symmetric_range = search([symmetric], without)
    assert symmetric_range.zero_point_share is None
    error = (built(x) - model(x)).square().mean()
    assert error < (symmetric.build(balance, symmetric_range)[0](x) - model(x)).square().mean() / 1.5


def test_eight_bits_stay_symmetric() -> None:
    config = replace(CONFIG, activation_bits=8)
    one = searched(*layer_and_rows(), config)
    assert one.build(*search([one], config))[0].format.zero_point is None


def test_a_layer_whose_channels_take_turns_stays_unrotated() -> None:
    model, x = layer_and_rows(one_sided=True)
    assert search([searched(model, x, CONFIG)], CONFIG)[0].block in (1, 64)
    spread = torch.full((64,), 1.0)
    spread[0] = 60.0
    assert search([searched(model, x * spread, CONFIG)], replace(CONFIG, scaling=False))[0].block == 64


@pytest.mark.parametrize("config", [replace(CONFIG, search_rotation=False), replace(CONFIG, block=1)])
def test_a_rotation_that_is_not_searched_is_the_format_s(config: qf.QuantConfig) -> None:
    one = searched(*layer_and_rows(), config)
    balance, _ = search([one], config)
    assert (balance.block, balance.seed) == (one.fmt.block, one.fmt.seed)


def test_a_layer_is_stored_with_the_rotation_that_was_chosen() -> None:
    model, x = layer_and_rows()
    one = searched(model, x, CONFIG)
    balance = Balance(None, 64, 2**32 + 5)
    built, left = one.build(balance, ActivationRange(0.9))
    assert (built.format.block, built.format.seed, built.format.clip) == (64, 2**32 + 5, 0.9)
    error = (built(x) - model(x)).square().mean() / (x @ model[0].weight.t()).square().mean()
    assert float(error) == pytest.approx(left, rel=0.5)  # a sample's, of float products


@pytest.mark.parametrize("config", [qf.QuantConfig(rank=4), qf.QuantConfig(rank=4, branch="svd", rounding="nearest")])
def test_errors_do_not_depend_on_what_was_built_before(config: qf.QuantConfig) -> None:
    model, x = layer_and_rows()
    one = searched(model, x, config)
    other, chosen = Balance(None, 64, 7), (Balance(0.5, 64, 3), ActivationRange(0.9, 0.5))
    before = one.error(*chosen), one.error(other, ActivationRange())
    first, second = one.build(*chosen), one.build(*chosen)
    assert (one.error(*chosen), one.error(other, ActivationRange())) == before
    assert first[1] == second[1] == searched(model, x, config).build(*chosen)[1]
    assert (first[1] == before[0]) is (config.rounding == "nearest")
    assert all(torch.equal(a, second[0].state_dict()[name]) for name, a in first[0].state_dict().items())


def test_a_search_makes_the_model_nearer() -> None:
    errors = []
    for search_rotation in (False, True):
        model, x = layer_and_rows(one_sided=True)
        exact = model(x)
        qf.quantize(model, [x], replace(CONFIG, search_rotation=search_rotation, rounding="nearest"))
        errors.append(float((model(x) - exact).square().mean()))
        assert len(quant_layers(model)) == 1
    assert errors[1] <= errors[0]
