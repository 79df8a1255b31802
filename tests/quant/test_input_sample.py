"""What searches see of a layer's input: rows that give its outputs, magnitudes of whole images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quantface_core.kernels.hadamard import Rotation, rotate
from quantface_core.quant import input_sample
from quantface_core.quant.balanced_weight import UNBALANCED, Balance
from quantface_core.quant.input_sample import ImageMagnitudes, InputSample, sample_input
from quantface_core.types import LayerFormat


def ones(channels: int) -> input_sample.ChannelScale:
    return lambda _: torch.ones(channels)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(3, 9), st.integers(3, 8),
    st.integers(1, 3), st.integers(1, 2), st.integers(0, 2),
)  # fmt: skip
def test_rows_of_a_convolution_give_its_outputs(
    images: int, channels: int, height: int, width: int, kernel: int, stride: int, padding: int
) -> None:
    layer, x = nn.Conv2d(channels, 4, kernel, stride, padding, bias=False), drawn(images, channels, height, width)
    with torch.no_grad():
        outputs = layer(x).movedim(1, -1)
        sample = sample_input(layer, LayerFormat(4, 4), x, ones(channels))
        assert torch.allclose(sample.rows.flatten(1) @ layer.weight.flatten(1).t(), outputs.flatten(0, 2), atol=1e-5)
    assert torch.equal(sample.images.bincount(minlength=images), torch.full((images,), outputs[0, ..., 0].numel()))


@pytest.mark.parametrize("block", [1, 8, 16])
@pytest.mark.parametrize("exponent", [None, 0.5])
def test_magnitudes_are_those_of_the_whole_balanced_image(
    block: int, exponent: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_sample, "_STRIP", 16 * 5)  # several strips, the last one short
    x, scale = drawn(3, 16, 4, 7), drawn(16).exp()
    magnitudes = ImageMagnitudes(x, lambda asked: torch.ones(16) if asked is None else scale)
    rotation = Rotation(16, block, 3)
    balanced = rotate(x if exponent is None else x / scale[:, None, None], rotation, 1)
    assert torch.allclose(magnitudes(exponent, rotation), balanced.abs().amax((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("block", [1, 8])
def test_balanced_rows_and_weight_have_the_product_of_both_as_they_were(block: int) -> None:
    layer, x, scale = nn.Conv2d(8, 4, 3, bias=False), drawn(2, 8, 5, 5), drawn(8).exp()
    rows, _ = sample_input(layer, LayerFormat(4, 4), x, lambda _: scale).balanced(Balance(0.5, block, 7))
    weight = rotate(layer.weight.detach() * scale[:, None, None], Rotation(8, block, 7), 1)
    outputs = layer(x).detach().movedim(1, -1).flatten(0, 2)
    assert torch.allclose(rows @ weight.flatten(1).t(), outputs, atol=1e-5)


def test_rows_are_measured_by_what_their_scale_is_of() -> None:
    x = drawn(2, 4, 6, 6)
    x[1] *= 100
    maps = sample_input(nn.Conv2d(4, 2, 3), LayerFormat(4, 4), x, ones(4))
    _, largest = maps.balanced(UNBALANCED)
    assert torch.equal(largest[:, 0], x.abs().amax((1, 2, 3))[maps.images])
    pixels = sample_input(nn.Conv2d(4, 2, 1), LayerFormat(4, 4, per_pixel=True), x, ones(4))
    rows, largest = pixels.balanced(Balance(None, 4, 1))
    assert torch.equal(largest[:, 0], rows.abs().amax(1))


def test_a_choice_is_seeded_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_sample, "ROWS", 20)
    layer, x = nn.Linear(3, 2), drawn(2, 50, 3)

    def chosen(seed: int) -> InputSample:
        return sample_input(layer, LayerFormat(4, 4, seed=seed), x, ones(3))

    assert chosen(0).rows.shape == (20, 3, 1)
    assert torch.equal(chosen(0).rows, chosen(0).rows)
    assert not torch.equal(chosen(0).rows, chosen(1).rows)
    some = chosen(0).subset(7, 0)
    assert len(some.rows) == 7
    assert torch.equal(some.images, some.images.sort().values)
    assert torch.equal(some.rows[..., 0], x.flatten(0, 1)[some.images])


@pytest.mark.parametrize("shape", [(64, 8), (8, 64)])
def test_rows_are_few_where_a_layer_is_wide_on_either_side(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_sample, "_NUMBERS", 640)
    sample = sample_input(nn.Linear(*shape), LayerFormat(4, 4), drawn(3, 20, shape[0]), ones(shape[0]))
    assert len(sample.rows) == 10
