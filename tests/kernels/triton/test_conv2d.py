"""Convolutions with what is around them, against the steps by themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quantface_core.kernels import reference
from quantface_core.kernels.fusion import Conv2dFusion, get_channel_sums
from tests.kernels.backends import conv2d_spec
from tests.kernels.triton.draws import SHAPES, Draw, assert_same, maps

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import triton
from quantface_core.kernels.triton import launch


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "outputs", "rank"), [(64, 40, 16), (128, 136, 4), (3, 16, 0), (64, 3, 16)])
def test_a_fused_convolution_equals_separate_ops(shape: str, channels: int, outputs: int, rank: int) -> None:
    kernel, stride, padding, sides = SHAPES[shape]
    draw, upsample = Draw(channels), shape == "upsampled"
    x, weight = draw.eighths(2, *sides, channels), draw.weight((outputs, channels, *kernel))
    transform, bias = draw.transform(channels, min(64, channels) if channels > 3 else 1), draw.floats(outputs)
    sides = {"stride": stride, "padding": padding}
    spec = conv2d_spec(weight, 4, 0.8, bias=bias, transform=transform, fuse_upsample=upsample, **sides)
    plain = reference.Conv2d(spec)
    y = plain.forward_upsampled(maps(x)) if upsample else plain(maps(x))
    skip, channel_bias = draw.floats(*y.shape), draw.floats(2, outputs)
    expected = y
    ours = triton.Conv2d(spec)
    if rank:
        down, up = draw.powers(rank, channels, *kernel), draw.powers(outputs, rank)
        ours.take_branch(lambda down=down, up=up: (down, up))
        read = maps(transform(x))
        read = F.interpolate(read, scale_factor=2.0, mode="nearest") if upsample else read
        low = F.conv2d(read.double(), down.double(), None, stride, padding).float()
        expected = y + torch.einsum("brhw,or->bohw", low.double(), up.double()).float()
    expected = expected + channel_bias[:, :, None, None] + skip
    found = ours.fused(maps(x), Conv2dFusion(channel_bias=channel_bias, skip=skip, sums=True), upsample)
    assert_same(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    if (sums := get_channel_sums(found)) is not None:
        totals = sums.sum(1)
        torch.testing.assert_close(totals[:, 0], expected.sum((2, 3)), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(totals[:, 1], expected.square().sum((2, 3)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("upsample", [False, True])
def test_channel_sums_give_the_factors_of_the_next_norm(upsample: bool) -> None:
    """Of images whose pixels fill tiles: the norm then reads its input once less."""
    draw = Draw(5)
    x, weight, bias = maps(draw.eighths(2, 16, 16, 64)), draw.weight((64, 64, 3, 3)), draw.floats(64)
    ours = triton.Conv2d(conv2d_spec(weight, 4, 0.8, padding=(1, 1), bias=bias, fuse_upsample=upsample))
    y = ours.fused(x, Conv2dFusion(sums=True), upsample)
    assert get_channel_sums(y) is not None
    assert get_channel_sums(y.view_as(y)) is None
    read = triton.norm_factors(y.view_as(y), 8, bias, bias, 1e-5)
    torch.testing.assert_close(triton.norm_factors(y, 8, bias, bias, 1e-5), read, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [128, 96])
def test_a_split_product_is_identical(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small map with many channels; the parts' ends are not those of taps."""
    draw = Draw(6)
    x, weight, bias = maps(draw.eighths(1, 8, 8, channels)), draw.weight((40, channels, 3, 3)), draw.floats(40)
    down, up, skip = draw.powers(16, channels, 3, 3), draw.powers(40, 16), draw.floats(1, 40, 8, 8)
    found = []
    for each in (1000, 5, 7):
        monkeypatch.setattr(launch, "steps_of_part", lambda programs, steps, device, each=each: min(steps, each))
        ours = triton.Conv2d(conv2d_spec(weight, 4, 0.8, padding=(1, 1), bias=bias))
        ours.take_branch(lambda down=down, up=up: (down, up))
        found.append(ours.fused(x, Conv2dFusion(skip=skip, sums=True)))
    assert all(torch.equal(y, found[0]) for y in found[1:])
    if (sums := get_channel_sums(found[1])) is not None:
        assert torch.equal(sums, get_channel_sums(found[0]))
