"""Every backend against integer sums computed in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.kernels import reference
from quantface_core.kernels.backend import Backend
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import BACKENDS
from quantface_core.kernels.quantize import code_range, largest_magnitude
from quantface_core.kernels.weight import LowBitWeight
from tests.kernels.backends import (
    CPU,
    SHARES,
    WIDTHS,
    conv2d_spec,
    linear_spec,
    low_bit_weight,
    on,
    places,
    zero_point_of,
)


@pytest.fixture(params=list(BACKENDS))
def place(request: pytest.FixtureRequest) -> tuple[Backend, torch.device]:
    found = [(backend, device) for backend, device in places() if backend is BACKENDS[request.param]]
    if not found:
        pytest.skip(BACKENDS[request.param].unavailable(CPU))
    return found[-1]


@settings(max_examples=25, deadline=None)
@given(
    widths=WIDTHS,
    share=SHARES,
    rows=st.integers(1, 9),
    k=st.integers(1, 80),
    o=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_linear_gives_the_reference_codes_and_exact_sums(widths, share, rows: int, k: int, o: int, seed: int) -> None:
    weight_bits, activation_bits = widths
    weight = low_bit_weight((o, k), weight_bits, seed)
    spec = linear_spec(weight, activation_bits, 0.7, zero_point_of(share, activation_bits))
    x = torch.randn(rows, k, generator=torch.Generator().manual_seed(seed)) * 3
    expected_codes, scale = reference.Linear(spec).codes(x)
    exact = (expected_codes.double() @ weight.codes().double().t()) * weight.scale.double() * scale.double()
    for backend, device in places():
        if not backend.supports(weight_bits, activation_bits):
            continue
        kernel = backend.Linear(on(device, spec))
        codes, same_scale = kernel.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(kernel, "zero", 0), expected_codes.int())
        assert torch.equal(scale, same_scale.cpu())
        torch.testing.assert_close(kernel(x.to(device)).cpu().double(), exact, rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    widths=WIDTHS,
    share=SHARES,
    size=st.tuples(st.integers(1, 2), st.integers(1, 24), st.integers(3, 9), st.integers(3, 9)),
    o=st.integers(1, 20),
    shape=st.sampled_from([(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (3, 1, 0)]),
    seed=st.integers(0, 999),
)
def test_conv2d_gives_the_reference_codes_and_exact_sums(widths, share, size, o: int, shape, seed: int) -> None:
    (weight_bits, activation_bits), (kernel_size, stride, padding) = widths, shape
    weight = low_bit_weight((o, size[1], kernel_size, kernel_size), weight_bits, seed)
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3
    sides = {"stride": (stride, stride), "padding": (padding, padding)}
    spec = conv2d_spec(weight, activation_bits, 0.8, zero_point_of(share, activation_bits), **sides)
    expected_codes, scale = reference.Conv2d(spec).codes(x)
    exact = F.conv2d(expected_codes.double(), weight.codes().double(), None, stride, padding)
    exact = exact * weight.scale.double()[:, None, None] * scale.double()
    for backend, device in places():
        if not backend.supports(weight_bits, activation_bits):
            continue
        kernel = backend.Conv2d(on(device, spec))
        codes, _ = kernel.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(kernel, "zero", 0), expected_codes.int())
        torch.testing.assert_close(kernel(x.to(device)).cpu().double(), exact, rtol=1e-6, atol=1e-6)


def test_extreme_codes_do_not_saturate(place) -> None:
    """All codes at their limits, 8 x 8 bits, many inputs: where 16-bit accumulators would overflow."""
    backend, device = place
    if not backend.supports(8, 8):
        pytest.skip("the reference stands in for these here")
    weight = LowBitWeight(pack(torch.full((16, 2048), 127, dtype=torch.int8), 8), torch.ones(16), 8, (16, 2048))
    y = backend.Linear(on(device, linear_spec(weight, 8)))(torch.full((3, 2048), -5.0, device=device))
    torch.testing.assert_close(y.cpu(), torch.full((3, 16), -5.0 * 127 * 2048), rtol=1e-6, atol=0)


def test_all_zero_activations_give_zero(place) -> None:
    backend, device = place
    spec = conv2d_spec(low_bit_weight((8, 16, 3, 3), 4, 0), 4, 0.9, padding=(1, 1))
    assert not backend.Conv2d(on(device, spec))(torch.zeros(2, 16, 5, 5, device=device)).any()


@pytest.mark.parametrize("zero_point", [None, *range(8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_halves_go_to_the_even_code_whatever_the_zero_point(place, dtype: torch.dtype, zero_point: int | None) -> None:
    backend, device = place
    highest = code_range(4, zero_point)[1]
    x = torch.tensor([[highest, *(half + 0.5 for half in range(highest))]], dtype=dtype)  # a scale of 1
    x = F.pad(x, (0, 16 - x.shape[1]))
    codes = torch.eye(16, dtype=torch.int8)
    weight = LowBitWeight(pack(codes, 4), torch.ones(16), 4, (16, 16))
    made = backend.Linear(on(device, linear_spec(weight, 4, 1.0, zero_point)))(x.to(device))
    assert torch.equal(made.cpu(), x.round())
    weight = LowBitWeight(pack(codes.view(16, 16, 1, 1), 4), torch.ones(16), 4, (16, 16, 1, 1))
    made = backend.Conv2d(on(device, conv2d_spec(weight, 4, 1.0, zero_point)))(x.to(device)[..., None, None])
    assert torch.equal(made.cpu()[..., 0, 0], x.round())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("has_bias", [True, False])
def test_sums_beyond_float16_are_scaled_before_they_are_rounded(place, bits: int, has_bias: bool) -> None:
    backend, device = place
    k = 4096
    weight = LowBitWeight(pack(torch.full((16, k), 7, dtype=torch.int8), 4), torch.full((16,), 0.03), 4, (16, k))
    x, bias = torch.full((2, k), 0.01, dtype=torch.float16), torch.full((16,), 0.5) if has_bias else None
    made = backend.Linear(on(device, linear_spec(weight, bits, bias=bias)))(x.to(device)).cpu()
    assert made.dtype == torch.float16
    torch.testing.assert_close(made.float(), torch.full((2, 16), k * 0.01 * 0.21 + 0.5 * has_bias), rtol=2e-3, atol=0)


def test_a_bias_is_added_before_the_result_is_rounded_to_float16(place) -> None:
    """A bias that nearly cancels the product: rounded to float16 first, it would be off by up to a quarter."""
    backend, device = place
    weight = LowBitWeight(pack(torch.full((16, 16), 7, dtype=torch.int8), 4), torch.ones(16), 4, (16, 16))
    x, bias = torch.full((2, 16), 7.0, dtype=torch.float16), torch.full((16,), -783.7)
    made = backend.Linear(on(device, linear_spec(weight, 4, bias=bias)))(x.to(device)).cpu()
    torch.testing.assert_close(made.float(), torch.full((2, 16), 7.0 * 7 * 16 - 783.7), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
@pytest.mark.parametrize("bits", [4, 8])
def test_tiny_float16_values_get_the_reference_codes(place, kind: str, bits: int) -> None:
    """Scales of tokens are float16 as well, with a smallest one that is well above float32's."""
    backend, device = place
    x = (torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(bits)) * 3e-5).half()
    spec = conv2d_spec(low_bit_weight((8, 16, 3, 3), 4, 0), bits, 0.9, padding=(1, 1))
    if kind == "Linear":
        x, spec = x.movedim(1, -1).reshape(-1, 16), linear_spec(low_bit_weight((8, 16), 4, 0), bits, 0.9)
    codes, scale = getattr(reference, kind)(spec).codes(x)
    kernel = getattr(backend, kind)(on(device, spec))
    found, same_scale = kernel.codes(x.to(device))
    assert torch.equal(found.cpu().int() - getattr(kernel, "zero", 0), codes.int())
    assert torch.equal(same_scale.cpu(), scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_compute_on_their_input_s_device_whatever_the_default(place, dtype: torch.dtype) -> None:
    backend, device = place
    if (backend, device) not in places(dtype):
        pytest.skip("the interpreter cuts numbers off to bfloat16")
    square = on(device, conv2d_spec(low_bit_weight((8, 16, 3, 3), 4, 0), 4, padding=(1, 1)))
    linear = on(device, linear_spec(low_bit_weight((8, 16), 4, 0), 4))
    x = torch.randn(2, 16, 6, 7, generator=torch.Generator().manual_seed(0)).to(device, dtype)

    def computed() -> list[torch.Tensor]:
        conv = backend.Conv2d(square)
        return [conv(x), conv.forward_upsampled(x), backend.Linear(linear)(x[0, :, 0].t())]

    expected = computed()
    with torch.device("meta"):  # stands for cuda
        found = computed()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_inf_propagate(place, dtype: torch.dtype, broken: float) -> None:
    """Codes could hide it: the picture would be wrong, and nobody told."""
    backend, device = place
    maps = torch.ones(1, 16, 5, 5, dtype=dtype, device=device)
    maps[0, 3, 2, 1] = broken
    conv = conv2d_spec(low_bit_weight((8, 16, 3, 3), 4, 0), 4, 0.9, padding=(1, 1))
    assert not backend.Conv2d(on(device, conv))(maps).isfinite().all()
    linear = linear_spec(low_bit_weight((8, 16), 4, 0), 4, 0.9)
    rows = backend.Linear(on(device, linear))(maps.permute(0, 2, 3, 1).reshape(-1, 16))
    assert not rows[11].isfinite().any()
    assert rows[0].isfinite().all()


@pytest.mark.parametrize("activation_bits", [3, 4, 6, 7, 8])
@pytest.mark.parametrize("loudness", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("size", [(16, 40, 40), (5, 17, 31)], ids=["whole vectors", "their ends"])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
def test_images_in_bfloat16_get_the_reference_codes(
    activation_bits: int, loudness: float, size: tuple[int, int, int], share: float | None
) -> None:
    zero_point = zero_point_of(share, activation_bits)
    spec = conv2d_spec(low_bit_weight((8, size[0], 3, 3), 4, 0), activation_bits, 0.7, zero_point, padding=(1, 1))
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(activation_bits)) * loudness
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    kernel = reference.Conv2d(spec)
    expected, scale = kernel.codes(x)
    # Half to even, clipped: what a float computation says, but where bfloat16 cannot tell a tie.
    exact = (x.double() / scale.double()).clamp(*code_range(activation_bits, zero_point))
    assert (expected - exact).abs().max() <= 0.5 + 2**-8
    for backend, device in places(torch.bfloat16):
        other = backend.Conv2d(on(device, spec))
        codes, same_scale = other.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(other, "zero", 0), expected.int())
        assert torch.equal(scale, same_scale.cpu())
        assert torch.equal(other(x.to(device)).cpu(), kernel(x))


@pytest.mark.parametrize("activation_bits", [3, 4, 6, 7, 8])
@pytest.mark.parametrize("loudness", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
def test_tokens_in_bfloat16_get_the_reference_codes(activation_bits: int, loudness: float, share: float | None) -> None:
    zero_point = zero_point_of(share, activation_bits)
    spec = linear_spec(low_bit_weight((8, 48), 4, 0), activation_bits, 0.7, zero_point)
    x = (torch.randn(300, 48, generator=torch.Generator().manual_seed(activation_bits)) * loudness).bfloat16()
    kernel = reference.Linear(spec)
    expected, scale = kernel.codes(x)
    exact = (x.double() / scale.double()).clamp(*code_range(activation_bits, zero_point))
    # Half to even, but for what the division rounds to bfloat16's eight bits.
    assert (expected - exact).abs().max() <= 0.5 + largest_magnitude(activation_bits, zero_point) * 2**-8
    for backend, device in places(torch.bfloat16):
        other = backend.Linear(on(device, spec))
        codes, same_scale = other.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(other, "zero", 0), expected.int())
        assert torch.equal(scale, same_scale.cpu())
        assert torch.equal(other(x.to(device)).cpu(), kernel(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_upsampled_convolutions_match_the_reference(bits: int, dtype: torch.dtype) -> None:
    """The same integers: bits that four weights' sum leaves room for (6), and some that it does not (8)."""
    bias = torch.linspace(-1, 1, 8)
    spec = conv2d_spec(low_bit_weight((8, 16, 3, 3), bits, 0), 4, 0.8, padding=(1, 1), bias=bias, fuse_upsample=True)
    x = torch.randn(2, 16, 9, 12, generator=torch.Generator().manual_seed(bits)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = reference.Conv2d(spec).forward_upsampled(x)
    assert expected.shape == (2, 8, 18, 24)
    for backend, device in places(dtype):
        y = backend.Conv2d(on(device, spec)).forward_upsampled(x.to(device))
        torch.testing.assert_close(y.cpu(), expected, rtol=0 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
