"""The reference: exact sums, whatever the device's own products round; results close to full precision's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.kernels import reference
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.hadamard import Rotation
from quantface_core.kernels.quantize import dequantize, largest_code, per_channel_scale, per_token_scale, quantize
from quantface_core.kernels.reference import conv2d_sums, linear_sums, product_dtype, scale_rows
from quantface_core.types import BITS
from tests.kernels.backends import conv2d_spec, linear_spec, low_bit_weight, on

widths = st.sampled_from(list(BITS))


def codes(shape: tuple[int, ...], bits: int, kind: str, seed: int) -> torch.Tensor:
    """Random codes, or the worst there are: all at the limit, or alternating between both limits."""
    limit = largest_code(bits)
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(-limit, limit + 1, shape, generator=generator).to(torch.int8)
    full = torch.full(shape, limit, dtype=torch.int8)
    if kind == "alternating":
        full[..., ::2] = -limit
    return full


kinds = st.sampled_from(["random", "limit", "alternating"])


@settings(max_examples=60, deadline=None)
@given(widths, widths, st.integers(1, 3000), kinds, st.integers(0, 999))
def test_linear_sums_are_exact(activation_bits: int, weight_bits: int, inputs: int, kind: str, seed: int) -> None:
    x, weight = codes((2, 3, inputs), activation_bits, kind, seed), codes((4, inputs), weight_bits, kind, seed + 1)
    expected = (x.double() @ weight.double().t()).long()
    assert torch.equal(linear_sums(x, weight, activation_bits, weight_bits).long(), expected)


@settings(max_examples=40, deadline=None)
@given(widths, widths, st.sampled_from([1, 3, 40, 300]), st.sampled_from([1, 3]), st.sampled_from([1, 2]), kinds)
def test_conv2d_sums_are_exact(
    activation_bits: int, weight_bits: int, channels: int, kernel: int, stride: int, kind: str
) -> None:
    x, weight = (
        codes((2, channels, 7, 6), activation_bits, kind, 1),
        codes((5, channels, kernel, kernel), weight_bits, kind, 2),
    )
    expected = F.conv2d(x.double(), weight.double(), None, stride, kernel // 2).long()
    assert torch.equal(conv2d_sums(x, weight, activation_bits, weight_bits, stride, kernel // 2).long(), expected)


@pytest.mark.parametrize("kernel", [3, 5])
def test_conv2d_sums_of_many_images_are_exact_without_onednn(kernel: int) -> None:
    """As on Macs, where torch would leave 16 images to NNPACK's transforms."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 128, (17, 64, 12, 12), generator=generator).to(torch.int8)
    weight = torch.randint(60, 128, (8, 64, kernel, kernel), generator=generator).to(torch.int8)
    with torch.backends.mkldnn.flags(enabled=False):
        sums = conv2d_sums(x, weight, 8, 8, 1, kernel // 2)
    assert torch.equal(sums.long(), F.conv2d(x.double(), weight.double(), None, 1, kernel // 2).long())


@pytest.mark.parametrize(("bits", "error"), [(4, 0.2), (6, 0.05), (8, 0.012)])
def test_a_quantized_linear_is_close_to_the_float_one(bits: int, error: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(50, 320, generator=generator), torch.randn(64, 320, generator=generator)
    x_scale, weight_scale = per_token_scale(x, bits), per_channel_scale(weight, bits)
    x_codes, weight_codes = quantize(x, x_scale, bits), quantize(weight, weight_scale, bits)
    result = scale_rows(linear_sums(x_codes, weight_codes, bits, bits) * weight_scale.t(), x_scale, None)
    simulated = dequantize(x_codes, x_scale) @ dequantize(weight_codes, weight_scale).t()
    assert torch.allclose(result, simulated, atol=1e-3)
    exact = x @ weight.t()
    assert float((result - exact).norm() / exact.norm()) < error


def test_layers_on_the_meta_device_give_shapes() -> None:
    """As full-precision layers do, for tools that count or plan without computing."""
    device = torch.device("meta")
    transform = ChannelTransform(torch.ones(16, device=device), Rotation(16, 16, 0))
    linear = on(device, linear_spec(low_bit_weight((8, 16), 4, 0), 4, transform=transform))
    square = on(device, conv2d_spec(low_bit_weight((8, 16, 3, 3), 4, 0), 4, transform=transform, padding=(1, 1)))
    assert reference.Linear(linear)(torch.empty(5, 16, device=device)).shape == (5, 8)
    maps = torch.empty(2, 16, 6, 7, dtype=torch.bfloat16, device=device)
    assert reference.Conv2d(square)(maps).shape == (2, 8, 6, 7)
    assert reference.Conv2d(square).forward_upsampled(maps).shape == (2, 8, 12, 14)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, 768), (torch.float16, 771)])
def test_bfloat16_results_are_rounded_before_their_token_scale(dtype: torch.dtype, expected: int) -> None:
    """257 is no bfloat16: its neighbour 256 is scaled. As a float16 result, 100,000 must not overflow before."""
    product, scale = torch.tensor([[257.0], [100_000.0]]), torch.tensor([[3], [1 / 256]], dtype=dtype)
    result = scale_rows(product.to(product_dtype(dtype)), scale, None)
    assert result.dtype == dtype
    assert result[:, 0].tolist() == [expected, pytest.approx(100_000 / 256, rel=2**-8)]


def test_inexact_library_sums_are_rounded_to_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions by Winograd's or Fourier's transform, on GPUs without TF32, give 1233.9998 for 1234."""
    x, weight = codes((1, 5, 6, 6), 4, "random", 0), codes((3, 5, 3, 3), 4, "random", 1)
    exact = conv2d_sums(x, weight, 4, 4, 1, 1)
    plain = F.conv2d
    for off in (-2e-4, 2e-4):
        monkeypatch.setattr(F, "conv2d", lambda *given, off=off: plain(*given) + off)
        assert torch.equal(conv2d_sums(x, weight, 4, 4, 1, 1), exact)
