"""Kernels that compute what is around a layer, against the steps by themselves; on a GPU or in Triton's interpreter.

Numbers are such that sums come out the same in any order: then everything is compared to the bit.
"""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quantface_core.kernels import reference
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.fusion import Conv2dFusion, LinearFusion, TokenNorm, get_channel_sums
from quantface_core.kernels.hadamard import Rotation
from quantface_core.kernels.quantize import largest_code
from quantface_core.kernels.weight import LowBitWeight

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import triton
from quantface_core.kernels.triton import launch
from quantface_core.kernels.triton.branch import Branch
from quantface_core.kernels.triton.maps import balanced, image_codes
from quantface_core.kernels.triton.tokens import rounded_tokens

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Draw:
    """Seeded numbers on the device."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def eighths(self, *shape: int) -> Tensor:
        """-4 to 4 in steps of 1/8: of the results of products and sums of a few hundred float32 loses nothing."""
        return (torch.randint(-32, 33, shape, generator=self.generator) / 8).to(DEVICE)

    def powers(self, *shape: int) -> Tensor:
        """1/2, 1 or 2, of either sign."""
        signs = torch.randint(0, 2, shape, generator=self.generator) * 2 - 1
        return (signs * 2.0 ** torch.randint(-1, 2, shape, generator=self.generator)).to(DEVICE)

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(DEVICE)

    def weight(self, shape: tuple[int, ...], bits: int = 4) -> LowBitWeight:
        limit = largest_code(bits)
        codes = torch.randint(-limit, limit + 1, shape, generator=self.generator).to(torch.int8)
        scale = torch.rand(shape[0], generator=self.generator) + 0.1
        return LowBitWeight(pack(codes, bits).to(DEVICE), scale.to(DEVICE), bits, shape)

    def transform(self, channels: int, block: int, folded: bool = False) -> ChannelTransform:
        rotation = Rotation(channels, block, 3)
        made = ChannelTransform(self.powers(channels), rotation)
        if folded:
            made.factors, made.folded = torch.ones_like(made.factors), True
        return made


def maps(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize(
    ("channels", "block", "folded"), [(128, 64, False), (64, 64, True), (8, 4, False), (32, 16, False), (3, 1, False)]
)
@pytest.mark.parametrize("normed", [False, True])
def test_a_map_is_balanced_and_rounded(bits: int, channels: int, block: int, folded: bool, normed: bool) -> None:
    draw = Draw(bits)
    x, transform = draw.eighths(2, 9, 11, channels), draw.transform(channels, block, folded)
    factors = draw.powers(2, 2, channels) if normed else None
    plain = x * factors[:, 0][:, None, None] + factors[:, 1][:, None, None] if factors is not None else x
    kernel = reference.Conv2d(draw.weight((8, channels, 1, 1)), bits, 0.8, (1, 1), (0, 0), None, transform)
    expected, scale = kernel.codes(maps(plain))
    out, largest = balanced(x, transform, factors)
    assert torch.equal(out, transform(plain))
    assert torch.equal(largest.amax(1), out.abs().amax((1, 2, 3)))
    codes, scales = image_codes(out, largest, bits, 0.8)
    assert torch.equal(maps(codes), expected)
    assert torch.equal(scales, scale.flatten())


def test_a_map_of_any_numbers_is_close() -> None:
    """Another order of sums, and another exponential: a code in ten thousand may be the next one."""
    draw = Draw(1)
    x, factors, transform = draw.floats(1, 16, 16, 128), draw.floats(1, 2, 128), draw.transform(128, 64)
    plain = transform(F.silu(x * factors[:, 0] + factors[:, 1]))
    out, largest = balanced(x, transform, factors, silu=True)
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)
    kernel = reference.Conv2d(draw.weight((8, 128, 1, 1)), 4, 0.8, (1, 1), (0, 0))
    differ = maps(image_codes(out, largest, 4, 0.8)[0]) != kernel.codes(maps(plain))[0]
    assert differ.float().mean() < 1e-4


def test_a_large_map_is_done_in_parts() -> None:
    """More tiles than largest magnitudes, and more numbers than programs that round them."""
    x = Draw().eighths(1, 400, 400, 64)
    x[0, 399, 398, 63] = 9.0
    out, largest = balanced(x, None)
    assert out is x
    assert largest.shape[1] <= 1024
    assert float(largest.amax()) == 9.0
    codes, scale = image_codes(x, largest, 8, 1.0)
    expected, same = reference.Conv2d(Draw().weight((1, 64, 1, 1)), 8, 1.0, (1, 1), (0, 0)).codes(maps(x))
    assert torch.equal(maps(codes), expected)
    assert torch.equal(scale, same.flatten())


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_makes_a_scale_infinite(broken: float) -> None:
    x = torch.ones(2, 3, 4, 64, device=DEVICE)
    x[1, 2, 3, 40] = broken
    largest = balanced(x, Draw().transform(64, 64))[1].amax(1)
    assert largest.isfinite().tolist() == [True, False]


SHAPES = {
    "even": ((3, 3), (1, 1), (1, 1), (8, 6)),
    "odd": ((3, 3), (1, 1), (1, 1), (7, 6)),
    "halved": ((3, 3), (2, 2), (0, 0), (9, 9)),
    "point": ((1, 1), (1, 1), (0, 0), (8, 6)),
    "upsampled": ((3, 3), (1, 1), (1, 1), (5, 6)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "outputs", "rank"), [(64, 40, 16), (128, 136, 4), (3, 16, 0), (64, 3, 16)])
def test_a_convolution_adds_what_is_around_it(shape: str, channels: int, outputs: int, rank: int) -> None:
    kernel, stride, padding, sides = SHAPES[shape]
    draw, upsample = Draw(channels), shape == "upsampled"
    x, weight = draw.eighths(2, *sides, channels), draw.weight((outputs, channels, *kernel))
    transform, bias = draw.transform(channels, min(64, channels) if channels > 3 else 1), draw.floats(outputs)
    given = (weight, 4, 0.8, stride, padding, bias, transform)
    plain = reference.Conv2d(*given)
    y = plain.forward_upsampled(maps(x)) if upsample else plain(maps(x))
    skip, channel_bias = draw.floats(*y.shape), draw.floats(2, outputs)
    expected = y
    ours = triton.Conv2d(*given, upsample)
    if rank:
        down, up = draw.powers(rank, channels, *kernel), draw.powers(outputs, rank)
        ours.take_branch(lambda down=down, up=up: (down, up))
        read = maps(transform(x))
        read = F.interpolate(read, scale_factor=2.0, mode="nearest") if upsample else read
        low = F.conv2d(read.double(), down.double(), None, stride, padding).float()
        expected = y + torch.einsum("brhw,or->bohw", low.double(), up.double()).float()
    expected = expected + channel_bias[:, :, None, None] + skip
    found = ours.fused(maps(x), Conv2dFusion(channel_bias=channel_bias, skip=skip, sums=True), upsample)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    if (sums := get_channel_sums(found)) is not None:
        totals = sums.sum(1)
        torch.testing.assert_close(totals[:, 0], expected.sum((2, 3)), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(totals[:, 1], expected.square().sum((2, 3)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("upsample", [False, True])
def test_a_convolution_sums_for_the_norm_that_follows(upsample: bool) -> None:
    """Of images whose pixels fill tiles: the norm then reads its input once less."""
    draw = Draw(5)
    x, weight, bias = maps(draw.eighths(2, 16, 16, 64)), draw.weight((64, 64, 3, 3)), draw.floats(64)
    ours = triton.Conv2d(weight, 4, 0.8, (1, 1), (1, 1), bias, None, upsample)
    y = ours.fused(x, Conv2dFusion(sums=True), upsample)
    assert get_channel_sums(y) is not None
    assert get_channel_sums(y.view_as(y)) is None
    read = triton.norm_factors(y.view_as(y), 8, bias, bias, 1e-5)
    torch.testing.assert_close(triton.norm_factors(y, 8, bias, bias, 1e-5), read, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", ["even", "odd", "halved", "point", "upsampled"])
def test_a_branch_reads_what_it_would(shape: str) -> None:
    """Four pixels' numbers at once are those of each, whatever their order in memory."""
    kernel, stride, padding, sides = SHAPES[shape]
    draw = Draw(2)
    x, down = maps(draw.eighths(2, *sides, 32)), draw.powers(4, 32, *kernel)
    up = draw.powers(8, 4)
    low, grouped = Branch(lambda: (down, up)).low(x, stride, padding, shape == "upsampled")
    read = F.interpolate(x, scale_factor=2.0, mode="nearest") if shape == "upsampled" else x
    expected = F.conv2d(read, down, None, stride, padding)
    assert grouped == (shape in ("even", "upsampled"))
    if grouped:
        batch, high, wide, _ = low.shape
        low = low.view(batch, high, wide, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * high, 2 * wide, 4)
    assert torch.equal(maps(low), expected)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize(
    ("width", "block", "folded"), [(320, 64, False), (1280, 64, True), (96, 4, False), (40, 1, False), (64, 64, False)]
)
def test_tokens_are_balanced_and_rounded(bits: int, width: int, block: int, folded: bool) -> None:
    draw = Draw(bits)
    x, transform = draw.eighths(37, width), draw.transform(width, block, folded)
    down = draw.powers(16, width)
    expected, scale = reference.Linear(draw.weight((8, width)), bits, 0.8, None, transform).codes(x)
    codes, scales, low = rounded_tokens(x, bits, 0.8, None, transform, down)
    assert torch.equal(codes, expected)
    assert torch.equal(scales, scale)
    assert torch.equal(low, (transform(x).double() @ down.double().t()).float())


@pytest.mark.parametrize("what", ["norm", "gate"])
def test_tokens_after_a_norm_or_a_gate_are_close(what: str) -> None:
    draw = Draw(7)
    transform, gated = draw.transform(320, 64), what == "gate"
    x = draw.floats(70, 640 if gated else 320)
    norm = None if gated else TokenNorm(draw.floats(320), draw.floats(320), 1e-5)
    plain = F.layer_norm(x, (320,), norm.weight, norm.bias, norm.eps) if norm else x[:, :320] * F.gelu(x[:, 320:])
    expected, scale = reference.Linear(draw.weight((8, 320)), 4, 0.8, None, transform).codes(plain)
    codes, scales, _ = rounded_tokens(x, 4, 0.8, None, transform, None, norm, gated)
    torch.testing.assert_close(scales, scale, rtol=1e-5, atol=0)
    assert (codes != expected).float().mean() < 1e-3
    assert (codes - expected).abs().max() <= 1


@pytest.mark.parametrize("ranks", [(16,), (0,), (16, 16, 16), (16, 0, 4)])
def test_linears_that_read_the_same_are_one_product(ranks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw(3)
    x, transform = draw.eighths(37, 128), draw.transform(128, 64)
    kernels, expected = [], []
    for number, rank in enumerate(ranks):
        weight, bias = draw.weight((40 + 8 * number, 128)), draw.floats(40 + 8 * number) if number != 1 else None
        y = reference.Linear(weight, 4, 0.8, bias, transform)(x)
        ours = triton.Linear(weight, 4, 0.8, bias, transform)
        if rank:
            down, up = draw.powers(rank, 128), draw.powers(len(y[0]), rank)
            ours.take_branch(lambda down=down, up=up: (down, up))
            y = y + ((transform(x).double() @ down.double().t()) @ up.double().t()).float()
        kernels.append(ours)
        expected.append(y)
    skip = draw.floats(37, sum(y.shape[1] for y in expected))
    started, plain = [], launch.start

    def start(kernel, *more, **named) -> None:
        started.append(kernel)
        plain(kernel, *more, **named)

    monkeypatch.setattr(launch, "start", start)
    for _ in range(2):
        started.clear()
        found = kernels[0].fused(x, LinearFusion(skip=skip), tuple(kernels[1:]))
    wanted = (torch.cat(expected, 1) + skip).split([y.shape[1] for y in expected], 1)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert len(started) == 2  # the weights stay unpacked


def test_weights_stay_packed_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantface_core.kernels.triton import linear, unpack

    for module in (linear, unpack):
        monkeypatch.setattr(module, "can_cache_weights", lambda _: False)
    draw = Draw(4)
    layers = tuple(triton.Linear(draw.weight((8, 64)), 4, 0.8) for _ in range(2))
    x = draw.eighths(5, 64)
    for layer in layers:
        assert torch.equal(layer(x), reference.Linear(layer.weight, 4, 0.8)(x))
        assert layer._unpacked._kept is None
    assert torch.equal(layers[0].fused(x, LinearFusion(), layers[1:])[1], layers[1](x))
    assert layers[0]._stacks[layers[1:]]._codes is None


def test_layers_that_are_one_product_go_with_their_model() -> None:
    """At once, not when Python next looks for cycles: a host counts on the memory."""
    draw = Draw(4)
    layers = tuple(triton.Linear(draw.weight((8, 64)), 4, 0.8) for _ in range(3))
    layers[0].fused(draw.eighths(5, 64), LinearFusion(), layers[1:])
    layers[0].fused(draw.eighths(5, 64), LinearFusion())
    gone = [weakref.ref(layer) for layer in layers]
    gc.disable()
    try:
        del layers
        assert not any(layer() for layer in gone)
    finally:
        gc.enable()


@pytest.mark.parametrize("outputs", [3, 16, 64, 136, 300])
@pytest.mark.parametrize("inputs", [3, 32, 64, 96, 128, 200])
def test_every_tile_gives_the_same_products(outputs: int, inputs: int) -> None:
    from quantface_core.kernels.triton.product import linear_product

    draw = Draw(outputs)
    weight = draw.weight((outputs, inputs)).codes()
    x = draw.weight((150, inputs)).codes()
    ones = torch.ones(outputs, device=DEVICE), torch.ones(150, 1, device=DEVICE)
    exact = (x.double() @ weight.double().t()).float()
    for tile in launch.tiles_for(outputs, inputs):
        assert torch.equal(linear_product(x, weight, *ones, None, tile=tile), exact)


@pytest.mark.parametrize("channels", [128, 96])
def test_a_product_in_parts_is_the_same(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small map with many channels; the parts' ends are not those of taps."""
    draw = Draw(6)
    x, weight, bias = maps(draw.eighths(1, 8, 8, channels)), draw.weight((40, channels, 3, 3)), draw.floats(40)
    down, up, skip = draw.powers(16, channels, 3, 3), draw.powers(40, 16), draw.floats(1, 40, 8, 8)
    found = []
    for each in (1000, 5, 7):
        monkeypatch.setattr(launch, "steps_of_part", lambda programs, steps, device, each=each: min(steps, each))
        ours = triton.Conv2d(weight, 4, 0.8, (1, 1), (1, 1), bias)
        ours.take_branch(lambda down=down, up=up: (down, up))
        found.append(ours.fused(x, Conv2dFusion(skip=skip, sums=True)))
    assert all(torch.equal(y, found[0]) for y in found[1:])
    if (sums := get_channel_sums(found[1])) is not None:
        assert torch.equal(sums, get_channel_sums(found[0]))


def test_parts_are_for_few_programs_of_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "processors", lambda _: 128)
    assert launch.steps_of_part(40, 90, DEVICE) == 15
    assert launch.steps_of_part(40, 9, DEVICE) == 9
    assert launch.steps_of_part(128, 90, DEVICE) == launch.steps_of_part(400, 90, DEVICE) == 90
