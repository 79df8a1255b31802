"""Maps prepared in one pass, and their codes, against the steps by themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quantface_core.kernels import reference
from quantface_core.kernels.backend import ActivationFormat
from tests.kernels.backends import conv2d_spec
from tests.kernels.triton.draws import DEVICE, Draw, maps

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import maps as module
from quantface_core.kernels.triton.maps import balanced, image_codes
from quantface_core.kernels.triton.rotation import rotates


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
    kernel = reference.Conv2d(conv2d_spec(draw.weight((8, channels, 1, 1)), bits, 0.8, transform=transform))
    expected, scale = kernel.codes(maps(plain))
    out, largest = balanced(x, transform, factors)
    assert torch.equal(out, transform(plain))
    assert torch.equal(largest.amax(1), out.abs().amax((1, 2, 3)))
    codes, scales = image_codes(out, largest, ActivationFormat(bits, 0.8))
    assert torch.equal(maps(codes), expected)
    assert torch.equal(scales, scale.flatten())


def test_a_block_larger_than_a_tile_is_rotated_before() -> None:
    """In float32 a block of 128 needs more shared memory than GeForce cards have."""
    draw = Draw(2)
    transform = draw.transform(128, 128)
    assert rotates(transform, torch.bfloat16)
    assert not rotates(transform, torch.float32)
    x = draw.eighths(1, 5, 6, 128)
    out, largest = balanced(x, transform, draw.powers(1, 2, 128), silu=True)
    assert float(largest.amax()) == float(out.abs().amax())
    plain, _ = balanced(x, transform)
    assert torch.equal(plain, transform(x))


def test_random_maps_are_close() -> None:
    """Another order of sums, and another exponential: a code in ten thousand may be the next one."""
    draw = Draw(1)
    x, factors, transform = draw.floats(1, 16, 16, 128), draw.floats(1, 2, 128), draw.transform(128, 64)
    plain = transform(F.silu(x * factors[:, 0] + factors[:, 1]))
    out, largest = balanced(x, transform, factors, silu=True)
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)
    kernel = reference.Conv2d(conv2d_spec(draw.weight((8, 128, 1, 1)), 4, 0.8))
    differ = maps(image_codes(out, largest, ActivationFormat(4, 0.8))[0]) != kernel.codes(maps(plain))[0]
    assert differ.float().mean() < 1e-4


def test_a_large_map_is_processed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """More tiles than largest magnitudes, and more numbers than programs that round them."""
    monkeypatch.setattr(module, "_PARTS", 16)
    monkeypatch.setattr(module, "_PROGRAMS", 32)
    x = Draw().eighths(1, 50, 50, 64)
    x[0, 49, 48, 63] = 9.0
    out, largest = balanced(x, None)
    assert out is x
    assert largest.shape[1] <= 16
    assert float(largest.amax()) == 9.0
    codes, scale = image_codes(x, largest, ActivationFormat(8))
    expected, same = reference.Conv2d(conv2d_spec(Draw().weight((1, 64, 1, 1)), 8)).codes(maps(x))
    assert torch.equal(maps(codes), expected)
    assert torch.equal(scale, same.flatten())


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_nan_and_inf_make_the_scale_infinite(broken: float) -> None:
    x = torch.ones(2, 3, 4, 64, device=DEVICE)
    x[1, 2, 3, 40] = broken
    largest = balanced(x, Draw().transform(64, 64))[1].amax(1)
    assert largest.isfinite().tolist() == [True, False]
