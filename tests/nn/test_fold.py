"""Balance moved to what makes a layer's input: the products stay, and balancing is the rotation alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantface_core.kernels import reference
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.hadamard import largest_block
from quantface_core.nn.fold import FoldPath, fold, fold_ahead, take_tensors
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.swap import empty_like
from quantface_core.types import LayerFormat

ALL = slice(None)


def low_bit(layer: nn.Linear | nn.Conv2d, channel_scale: torch.Tensor, seed: int = 5, rank: int = 2) -> QuantLayer:
    """A layer of random integers."""
    generator = torch.Generator().manual_seed(seed)
    form = LayerFormat(4, 8, clip=0.9, block=largest_block(layer.weight.shape[1], 8), seed=seed, rank=rank)
    low = empty_like(layer, form)
    low.packed = pack(torch.randint(-7, 8, layer.weight.shape, generator=generator, dtype=torch.int8), 4)
    low.weight_scale = torch.rand(len(layer.weight), generator=generator) + 0.1
    low.channel_scale = channel_scale.clone()
    low.bias = torch.randn(len(layer.weight), generator=generator)
    if rank:
        low.down.normal_(generator=generator)
        low.up.normal_(generator=generator)
    low.prefer(reference)
    return low


def norm(channels: int) -> nn.LayerNorm:
    made = nn.LayerNorm(channels)
    nn.init.normal_(made.weight, 1.0, 0.2)
    nn.init.normal_(made.bias)
    return made.requires_grad_(False)


def powers(count: int, seed: int = 0) -> torch.Tensor:
    """Scales that multiply without rounding."""
    return 2.0 ** torch.randint(-3, 4, (count,), generator=torch.Generator().manual_seed(seed))


def is_rotation_alone(layer: QuantLayer) -> bool:
    return ChannelTransform(layer.channel_scale, layer.rotation).folded


@given(count=st.sampled_from([6, 16, 24, 64, 7]), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_norm_takes_over_without_a_change_of_any_bit(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    producer, x, scale = norm(count), torch.randn(9, count), powers(count, seed)
    consumers = [low_bit(nn.Linear(count, outputs), scale, rank=rank) for outputs, rank in ((5, 0), (8, 2))]
    codes = [consumer.kernel().codes(producer(x)) for consumer in consumers]
    before = [consumer(producer(x)) for consumer in consumers]
    assert fold(FoldPath(producer, ALL, consumers))
    for consumer, y, (integers, scales) in zip(consumers, before, codes, strict=True):
        assert is_rotation_alone(consumer)
        now = consumer.kernel().codes(producer(x))
        assert torch.equal(now[0], integers)
        assert torch.equal(now[1], scales)
        assert torch.allclose(consumer(producer(x)), y, rtol=1e-5, atol=1e-5)


def test_a_low_bit_layer_takes_over_for_some_of_its_outputs() -> None:
    """The linear half of a gated layer, whose gate stays as it is."""
    torch.manual_seed(0)
    producer, x = low_bit(nn.Linear(16, 48), powers(16)), torch.randn(7, 16)
    consumer = low_bit(nn.Linear(24, 10), powers(24, 1), seed=8)

    def computed() -> torch.Tensor:
        values, gates = producer(x).chunk(2, -1)
        return consumer(values * gates)

    before, gates = computed(), producer(x)[:, 24:]
    assert fold(FoldPath(producer, slice(24), [consumer]))
    assert is_rotation_alone(consumer)
    assert bool((producer.weight_scale > 0).all())
    assert torch.equal(producer(x)[:, 24:], gates)
    assert torch.allclose(computed(), before, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_group_norms_and_convolutions(kernel: int) -> None:
    torch.manual_seed(0)
    producer, x = nn.GroupNorm(4, 16).requires_grad_(False), torch.randn(2, 16, 6, 5)
    consumer = low_bit(nn.Conv2d(16, 8, kernel, padding=kernel // 2), powers(16))
    before = consumer(producer(x))
    assert fold(FoldPath(producer, ALL, [consumer]))
    assert torch.allclose(consumer(producer(x)), before, rtol=1e-5, atol=1e-4)


def test_any_scales_leave_the_product() -> None:
    torch.manual_seed(0)
    producer, x = norm(64), torch.randn(200, 64)
    consumer = low_bit(nn.Linear(64, 32), torch.rand(64) * 3 + 0.1)
    before = consumer(producer(x))
    assert fold(FoldPath(producer, ALL, [consumer]))
    # A number that fell between two codes may fall to the other.
    assert float((consumer(producer(x)) - before).square().mean() / before.square().mean()) < 1e-6


def test_a_second_time_changes_nothing() -> None:
    producer, consumer = norm(16), low_bit(nn.Linear(16, 4), powers(16))
    assert fold(FoldPath(producer, ALL, [consumer]))
    weight = producer.weight.clone()
    assert fold(FoldPath(producer, ALL, [consumer]))
    assert torch.equal(producer.weight, weight)


def test_what_cannot_be_taken_over_stays() -> None:
    producer, scale = norm(16), powers(16)
    weight = producer.weight.clone()
    alike = low_bit(nn.Linear(16, 4), scale)
    for other in (nn.Linear(16, 4), low_bit(nn.Linear(16, 4), scale * 2), low_bit(nn.Linear(16, 4), scale, seed=6)):
        assert not fold(FoldPath(producer, ALL, [alike, other]))
    dead = low_bit(nn.Linear(16, 4), scale * torch.where(torch.arange(16) == 3, 1e5, 1.0))
    assert not fold(FoldPath(producer, ALL, [dead]))  # a file's float16 would not hold it
    assert torch.equal(producer.weight, weight)
    assert torch.equal(alike.channel_scale, scale)


def test_without_a_rotation_scales_alone_move() -> None:
    torch.manual_seed(0)
    producer, x, layer = norm(16), torch.randn(5, 16), low_bit(nn.Linear(16, 4), powers(16))
    consumer = layer.like(replace(layer.format, block=1, rank=0))
    consumer.prefer(reference)
    before = consumer(producer(x))
    assert fold(FoldPath(producer, ALL, [consumer]))
    assert bool((consumer.channel_scale == 1).all())
    assert torch.equal(consumer(producer(x)), before)


def test_a_model_of_inference_mode_is_folded_outside_of_it() -> None:
    with torch.inference_mode():
        producer, consumer, x = norm(16), low_bit(nn.Linear(16, 4), powers(16)), torch.randn(5, 16)
        before = consumer(producer(x))
    assert fold(FoldPath(producer, ALL, [consumer]))
    with torch.inference_mode():
        assert torch.allclose(consumer(producer(x)), before, rtol=1e-5, atol=1e-4)


def test_folded_ahead_low_bit_layers_change_when_they_take_their_tensors() -> None:
    torch.manual_seed(0)
    first, second, x = (
        low_bit(nn.Linear(16, 24), powers(16)),
        low_bit(nn.Linear(24, 10), powers(24)),
        torch.randn(7, 16),
    )
    state = [{n: t.clone() for n, t in layer.state_dict().items()} for layer in (first, second)]
    before = second(first(x))
    copies = fold_ahead([FoldPath(first, ALL, [second])], {})
    for layer, kept in zip((first, second), state, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in layer.state_dict().items())
    assert torch.equal(second(first(x)), before)
    take_tensors(copies)
    assert is_rotation_alone(second)
    assert torch.allclose(second(first(x)), before, rtol=1e-5, atol=1e-4)


def test_a_producer_whose_halves_are_read_apart_takes_both_over() -> None:
    torch.manual_seed(0)
    producer, x = nn.Linear(16, 24).requires_grad_(False), torch.randn(7, 16)
    floats = [nn.Linear(12, 5), nn.Linear(12, 5)]
    built = {layer: low_bit(layer, powers(12, seed), seed) for seed, layer in enumerate(floats)}
    before = [low(half) for low, half in zip(built.values(), producer(x).chunk(2, -1), strict=True)]
    halves = (slice(0, 12), slice(12, 24))
    copies = fold_ahead([FoldPath(producer, *each) for each in zip(halves, ([f] for f in floats), strict=True)], built)
    take_tensors(copies)
    after = [low(half) for low, half in zip(built.values(), producer(x).chunk(2, -1), strict=True)]
    assert all(is_rotation_alone(low) for low in built.values())
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(after, before, strict=True))
