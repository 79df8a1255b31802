"""Compensated rounding: when it is rounding to nearest, what it never makes worse, what it survives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import quantface_core as qf
from quantface_core.kernels.quantize import largest_code, per_channel_scale, quantize
from quantface_core.nn.swap import quant_layers
from quantface_core.quant import compensate
from quantface_core.quant.compensate import (
    RoundingSample,
    compensated_codes,
    damped_factor,
    feedback_codes,
    ridge,
)
from quantface_core.types import ROUNDINGS

sizes = st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(2, 90), st.integers(3, 8), st.integers(0, 2**16))


def case(outputs: int, columns: int, rows: int, bits: int, seed: int) -> tuple[Tensor, Tensor, RoundingSample, Tensor]:
    """A weight, its scales, inputs that go together, as a layer rounds them; and the exact inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, columns, generator=generator)
    mixed = torch.randn(rows, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    exact = mixed + 3 * torch.randn(rows, 1, generator=generator)
    step = exact.abs().amax(1, keepdim=True) / largest_code(bits)
    inputs = quantize(exact, step, bits) * step
    return weight, per_channel_scale(weight, bits), RoundingSample(inputs, exact @ weight.t()), exact


def error(codes: Tensor, scale: Tensor, sample: RoundingSample) -> Tensor:
    return (sample.inputs @ (codes * scale).t() - sample.target).square().sum(0)


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_of_channels_that_have_nothing_in_common_it_is_nearest(given: tuple[int, ...]) -> None:
    weight, scale, _, _ = case(*given)
    bits = given[3]
    assert torch.equal(feedback_codes(weight / scale, bits, torch.eye(given[1])), quantize(weight, scale, bits))
    alone = RoundingSample(torch.eye(given[1]), weight.t().contiguous())
    assert torch.equal(compensated_codes(weight, scale, bits, alone), quantize(weight, scale, bits))


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_no_output_is_worse_than_nearest_and_codes_stay_in_range(given: tuple[int, ...]) -> None:
    weight, scale, sample, _ = case(*given)
    bits = given[3]
    codes = compensated_codes(weight, scale, bits, sample)
    assert codes.dtype == torch.int8
    assert int(codes.abs().max()) <= largest_code(bits)
    plain = error(quantize(weight, scale, bits), scale, sample)
    assert bool((error(codes, scale, sample) <= plain * 1.001 + 1e-4).all())


def test_correlated_inputs_lose_a_quarter_of_the_error_of_rows_not_seen_too() -> None:
    weight, scale, sample, _ = case(32, 48, 4000, 4, 0)
    seen, unseen = (
        RoundingSample(sample.inputs[part], sample.target[part]) for part in (slice(2000), slice(2000, None))
    )
    codes, nearest = compensated_codes(weight, scale, 4, seen), quantize(weight, scale, 4)
    assert error(codes, scale, unseen).sum() < 0.75 * error(nearest, scale, unseen).sum()


def test_groups_of_columns_make_up_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, scale, sample, _ = case(16, 64, 2000, 4, 1)
    whole = error(compensated_codes(weight, scale, 4, sample), scale, sample).sum()
    monkeypatch.setattr(compensate, "LARGEST_GROUP", 20)
    grouped = error(compensated_codes(weight, scale, 4, sample), scale, sample).sum()
    nearest = error(quantize(weight, scale, 4), scale, sample).sum()
    assert whole < grouped < 0.8 * nearest


def test_errors_are_carried_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, scale, sample, _ = case(8, 150, 400, 4, 0)
    moments = sample.inputs.t() @ sample.inputs
    blocks = feedback_codes(weight / scale, 4, moments)
    monkeypatch.setattr(compensate, "_BLOCK", 150)
    whole = feedback_codes(weight / scale, 4, moments)
    assert (blocks != whole).float().mean() < 0.01  # sums in another order round a few otherwise


def test_moments_that_are_not_quite_positive_take_more_damping() -> None:
    assert damped_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 0.5) is not None
    assert damped_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1e-9) is None


def change_of(x: Tensor, error: Tensor) -> Tensor:
    return ridge(x, error, x.t() @ x)


def test_what_rows_do_not_foretell_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(300, 40, generator=generator), torch.randn(300, 5, generator=generator)
    assert not change_of(x, noise).any()
    assert not change_of(x[:1], noise[:1]).any()
    change = torch.randn(5, 40, generator=generator)
    assert torch.allclose(change_of(x, x @ change.t()), change, atol=0.1)


@pytest.mark.parametrize("inputs", ["none", "zero", "nan", "one nan", "singular", "huge"])
def test_samples_that_tell_nothing_round_to_nearest_or_better(inputs: str) -> None:
    weight, scale, sample, _ = case(6, 30, 40, 4, 2)
    x = sample.inputs.clone()
    if inputs == "none":
        x = x[:0]
    elif inputs == "zero":
        x.zero_()
    elif inputs == "nan":
        x[:, 3] = float("nan")
    elif inputs == "one nan":
        x[5, 3] = float("nan")
    elif inputs == "singular":
        x[:] = x[:1]
    else:
        x *= 1e18
    codes = compensated_codes(weight, scale, 4, RoundingSample(x, x @ weight.t()))
    if inputs in ("none", "zero", "nan"):
        assert torch.equal(codes, quantize(weight, scale, 4))
    assert int(codes.abs().max()) <= 7


@pytest.mark.parametrize("part", ["inputs", "target"])
def test_rows_that_are_not_finite_do_not_count(part: str) -> None:
    weight, scale, sample, _ = case(6, 30, 40, 4, 2)
    keep = torch.arange(len(sample.inputs)) != 5
    want = compensated_codes(weight, scale, 4, RoundingSample(sample.inputs[keep], sample.target[keep]))
    getattr(sample, part)[5, 3] = float("nan")
    assert torch.equal(compensated_codes(weight, scale, 4, sample), want)
    assert not torch.equal(want, quantize(weight, scale, 4))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3, stride=2), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16 * 9, 8)).eval()


def quantized(rounding: str, images: Tensor) -> nn.Sequential:
    model = network()
    qf.quantize(model, [images], qf.QuantConfig(rank=2, rounding=rounding))
    return model


def test_a_model_is_nearer_and_the_same_every_time() -> None:
    smooth = torch.randn(48, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(smooth, size=(8, 8), mode="bilinear")
    exact = network()
    with torch.no_grad():
        errors = {r: float((quantized(r, images[:32])(images[32:]) - exact(images[32:])).norm()) for r in ROUNDINGS}
    assert errors["compensated"] < errors["nearest"]
    first, second = (quant_layers(quantized("compensated", images)) for _ in range(2))
    assert all(torch.equal(first[name].packed, second[name].packed) for name in first)


def test_a_layer_of_one_image_or_token_is_rounded() -> None:
    model = quantized("compensated", torch.randn(1, 3, 8, 8))
    assert len(quant_layers(model)) == 3


def test_interrupted_the_model_stays() -> None:
    model, images = network(), torch.randn(2, 3, 8, 8)

    def stop(done: int, count: int) -> None:
        if done == count - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qf.quantize(model, [images], qf.QuantConfig(rounding="compensated"), progress=stop)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), network().parameters(), strict=True))


def test_another_rounding_is_refused() -> None:
    with pytest.raises(qf.ConfigError, match="nearest"):
        qf.quantize(network(), [torch.randn(1, 3, 8, 8)], qf.QuantConfig(rounding="up"))  # type: ignore[arg-type]
