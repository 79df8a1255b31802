"""Every backend against integer sums computed in float64."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import UsageError
from quantface_core.kernels import dispatch, reference
from quantface_core.kernels.backend import CHOICES, NAMES
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import (
    BACKENDS,
    backend_name,
    choose_backend,
    preferred_backend,
    register_backend,
)
from quantface_core.kernels.quantize import ASYMMETRIC_BITS, BITS, code_range, largest_code, largest_magnitude
from quantface_core.kernels.weight import LowBitWeight

CPU, GPU = torch.device("cpu"), torch.device("cuda")
needs_onednn = pytest.mark.skipif(bool(BACKENDS["onednn"].unavailable(CPU)), reason="needs oneDNN's products")


def interpreter() -> bool:
    """Whether there is a Triton whose interpreter needs no GPU."""
    return importlib.util.find_spec("triton") is not None and int(importlib.metadata.version("triton")[0]) >= 3


INTERPRETED = not torch.cuda.is_available() and interpreter()
"""Whether Triton's kernels run on the CPU, in its interpreter: see conftest.py."""


def places(dtype: torch.dtype = torch.float32) -> list[tuple[ModuleType, torch.device]]:
    """Every backend that can be tried here, with the device to try it on."""
    devices = [CPU, GPU] if torch.cuda.is_available() else [CPU]
    known = [(b, device) for b in BACKENDS.values() for device in devices if b.unavailable(device) is None]
    # The interpreter cuts numbers off to bfloat16, a GPU rounds them.
    return [*known, (BACKENDS["triton"], CPU)] if INTERPRETED and dtype != torch.bfloat16 else known


@pytest.fixture(params=list(BACKENDS))
def place(request: pytest.FixtureRequest) -> tuple[ModuleType, torch.device]:
    found = [(backend, device) for backend, device in places() if backend is BACKENDS[request.param]]
    if not found:
        pytest.skip(BACKENDS[request.param].unavailable(CPU))
    return found[-1]


def on(device: torch.device, weight: LowBitWeight) -> LowBitWeight:
    return replace(weight, packed=weight.packed.to(device), scale=weight.scale.to(device))


def low_bit_weight(shape: tuple[int, ...], bits: int, seed: int) -> LowBitWeight:
    generator = torch.Generator().manual_seed(seed)
    limit = largest_code(bits)
    codes = torch.randint(-limit, limit + 1, shape, generator=generator).to(torch.int8)
    return LowBitWeight(pack(codes, bits), torch.rand(shape[0], generator=generator) + 0.1, bits, shape)


WIDTHS = st.tuples(st.sampled_from([3, 4, 6, 8]), st.sampled_from([3, 4, 6, 8]))
SHARES = st.sampled_from([None, 0, 1 / 16, 1 / 4, 1 / 2])  # of activation codes, below zero; None = symmetric


def zero_point_of(share: float | None, bits: int) -> int | None:
    return None if share is None or bits > ASYMMETRIC_BITS else round(share * 2**bits)


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
    zero_point = zero_point_of(share, activation_bits)
    weight = low_bit_weight((o, k), weight_bits, seed)
    x = torch.randn(rows, k, generator=torch.Generator().manual_seed(seed)) * 3
    expected_codes, scale = reference.Linear(weight, activation_bits, 0.7, zero_point=zero_point).codes(x)
    exact = (expected_codes.double() @ weight.codes().double().t()) * weight.scale.double() * scale.double()
    for backend, device in places():
        if not backend.supports(weight_bits, activation_bits):
            continue
        kernel = backend.Linear(on(device, weight), activation_bits, 0.7, zero_point=zero_point)
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
    steps = ((stride, stride), (padding, padding))
    zero_point = zero_point_of(share, activation_bits)
    expected_codes, scale = reference.Conv2d(weight, activation_bits, 0.8, *steps, zero_point=zero_point).codes(x)
    exact = F.conv2d(expected_codes.double(), weight.codes().double(), None, *steps)
    exact = exact * weight.scale.double()[:, None, None] * scale.double()
    for backend, device in places():
        if not backend.supports(weight_bits, activation_bits):
            continue
        kernel = backend.Conv2d(on(device, weight), activation_bits, 0.8, *steps, zero_point=zero_point)
        codes, _ = kernel.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(kernel, "zero", 0), expected_codes.int())
        torch.testing.assert_close(kernel(x.to(device)).cpu().double(), exact, rtol=1e-6, atol=1e-6)


def test_extreme_codes_do_not_saturate(place) -> None:
    """All codes at their limits, 8 x 8 bits, many inputs: where 16-bit accumulators would overflow."""
    backend, device = place
    if not backend.supports(8, 8):
        pytest.skip("the reference stands in for these here")
    weight = LowBitWeight(pack(torch.full((16, 2048), 127, dtype=torch.int8), 8), torch.ones(16), 8, (16, 2048))
    y = backend.Linear(on(device, weight), 8, 1.0)(torch.full((3, 2048), -5.0, device=device))
    torch.testing.assert_close(y.cpu(), torch.full((3, 16), -5.0 * 127 * 2048), rtol=1e-6, atol=0)


def test_all_zero_activations_give_zero(place) -> None:
    backend, device = place
    weight = on(device, low_bit_weight((8, 16, 3, 3), 4, 0))
    assert not backend.Conv2d(weight, 4, 0.9, (1, 1), (1, 1))(torch.zeros(2, 16, 5, 5, device=device)).any()


@pytest.mark.parametrize("zero_point", [None, *range(8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_halves_go_to_the_even_code_whatever_the_zero_point(place, dtype: torch.dtype, zero_point: int | None) -> None:
    backend, device = place
    highest = code_range(4, zero_point)[1]
    x = torch.tensor([[highest, *(half + 0.5 for half in range(highest))]], dtype=dtype)  # a scale of 1
    x = F.pad(x, (0, 16 - x.shape[1]))
    codes = torch.eye(16, dtype=torch.int8)
    weight = LowBitWeight(pack(codes, 4), torch.ones(16), 4, (16, 16))
    made = backend.Linear(on(device, weight), 4, 1.0, zero_point=zero_point)(x.to(device))
    assert torch.equal(made.cpu(), x.round())
    weight = LowBitWeight(pack(codes.view(16, 16, 1, 1), 4), torch.ones(16), 4, (16, 16, 1, 1))
    made = backend.Conv2d(on(device, weight), 4, 1.0, (1, 1), (0, 0), zero_point=zero_point)(
        x.to(device)[..., None, None]
    )
    assert torch.equal(made.cpu()[..., 0, 0], x.round())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("has_bias", [True, False])
def test_sums_beyond_float16_are_scaled_before_they_are_rounded(place, bits: int, has_bias: bool) -> None:
    backend, device = place
    k = 4096
    weight = LowBitWeight(pack(torch.full((16, k), 7, dtype=torch.int8), 4), torch.full((16,), 0.03), 4, (16, k))
    x, bias = torch.full((2, k), 0.01, dtype=torch.float16), torch.full((16,), 0.5) if has_bias else None
    on_device = None if bias is None else bias.to(device)
    made = backend.Linear(on(device, weight), bits, 1.0, bias=on_device)(x.to(device)).cpu()
    assert made.dtype == torch.float16
    torch.testing.assert_close(made.float(), torch.full((2, 16), k * 0.01 * 0.21 + 0.5 * has_bias), rtol=2e-3, atol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(place, dtype: torch.dtype, broken: float) -> None:
    """Codes could hide it: the picture would be wrong, and nobody told."""
    backend, device = place
    maps = torch.ones(1, 16, 5, 5, dtype=dtype, device=device)
    maps[0, 3, 2, 1] = broken
    weight = on(device, low_bit_weight((8, 16, 3, 3), 4, 0))
    assert not backend.Conv2d(weight, 4, 0.9, (1, 1), (1, 1))(maps).isfinite().all()
    weight = on(device, low_bit_weight((8, 16), 4, 0))
    rows = backend.Linear(weight, 4, 0.9)(maps.permute(0, 2, 3, 1).reshape(-1, 16))
    assert not rows[11].isfinite().any()
    assert rows[0].isfinite().all()


def test_backends_are_chosen_by_name_environment_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(torch.device("meta")) is reference
    assert choose_backend(CPU, "reference") is reference
    monkeypatch.setenv("QUANTFACE_BACKEND", "reference")
    assert choose_backend(CPU) is reference
    with pytest.raises(UsageError, match="unknown backend 'tpu'"):
        choose_backend(CPU, "tpu")
    with pytest.raises(UsageError, match="onednn cannot run here: it computes on the CPU"):
        choose_backend(torch.device("meta"), "onednn")


def test_a_backend_of_others_is_chosen_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTFACE_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "BACKENDS", dict(BACKENDS))
    mine, before = ModuleType("mine"), choose_backend(CPU)
    with pytest.raises(UsageError, match="'mine' has no Linear, Conv2d, unavailable, supports"):
        register_backend("mine", mine)
    vars(mine).update({name: getattr(reference, name) for name in ("Linear", "Conv2d", "unavailable", "supports")})
    register_backend("mine", mine)
    assert choose_backend(CPU) is before
    assert choose_backend(CPU, "mine") is preferred_backend(CPU, "mine") is mine
    monkeypatch.setenv("QUANTFACE_BACKEND", "mine")
    assert choose_backend(CPU) is mine
    assert backend_name(mine) == "mine"
    monkeypatch.delenv("QUANTFACE_BACKEND")
    assert preferred_backend(CPU, "another process's") is before
    for taken in ("mine", "reference", "auto"):
        with pytest.raises(UsageError, match="already"):
            register_backend(taken, mine)
    with pytest.raises(UsageError, match=r"use auto, .*, mine"):
        choose_backend(CPU, "tpu")


def test_sums_that_saturate_are_left_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    onednn = BACKENDS["onednn"]
    if reason := onednn.unavailable(CPU):
        pytest.skip(reason)
    from quantface_core.kernels.onednn import saturation, winograd

    for saturates in (True, False):
        monkeypatch.setattr(saturation, "saturates", lambda found=saturates: found)
        widths = [(w, x) for w in BITS for x in BITS if not onednn.supports(w, x)]
        assert widths == ([(8, 8)] if saturates else [])
        kernel = (256, 256, 3, 3)
        room = [bits for bits in BITS if winograd.fits(kernel, bits, 4, (1, 1))]
        assert room == ([3, 4] if saturates else [3, 4, 5, 6])


def test_the_largest_products_that_are_trusted_come_out_right() -> None:
    if reason := BACKENDS["onednn"].unavailable(CPU):
        pytest.skip(reason)
    from quantface_core.kernels.onednn import saturation

    assert saturation.adds_up(255, 64)
    assert saturation.adds_up(129, 127)
    assert saturation.adds_up(255, 127) != saturation.saturates()


def test_a_gpu_without_its_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKENDS["triton"], "unavailable", lambda device: "it needs the package triton")
    with pytest.warns(UserWarning, match="slow here: it needs the package triton"):
        assert preferred_backend(GPU, "triton") in (BACKENDS["half"], reference)
    assert preferred_backend(CPU, "reference") is reference


@pytest.mark.parametrize("activation_bits", [3, 4, 6, 7, 8])
@pytest.mark.parametrize("loudness", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("size", [(16, 40, 40), (5, 17, 31)], ids=["whole vectors", "their ends"])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
def test_images_in_bfloat16_get_the_reference_codes(
    activation_bits: int, loudness: float, size: tuple[int, int, int], share: float | None
) -> None:
    zero_point = zero_point_of(share, activation_bits)
    weight = low_bit_weight((8, size[0], 3, 3), 4, 0)
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(activation_bits)) * loudness
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    kernel = reference.Conv2d(weight, activation_bits, 0.7, (1, 1), (1, 1), zero_point=zero_point)
    expected, scale = kernel.codes(x)
    # Half to even, clipped: what a float computation says, but where bfloat16 cannot tell a tie.
    exact = (x.double() / scale.double()).clamp(*code_range(activation_bits, zero_point))
    assert (expected - exact).abs().max() <= 0.5 + 2**-8
    for backend, device in places(torch.bfloat16):
        other = backend.Conv2d(on(device, weight), activation_bits, 0.7, (1, 1), (1, 1), zero_point=zero_point)
        codes, same_scale = other.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(other, "zero", 0), expected.int())
        assert torch.equal(scale, same_scale.cpu())
        assert torch.equal(other(x.to(device)).cpu(), kernel(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_backends_double_as_the_reference_does(bits: int, dtype: torch.dtype) -> None:
    """The same integers: bits that four weights' sum leaves room for (6), and some that it does not (8)."""
    weight = low_bit_weight((8, 16, 3, 3), bits, 0)
    x = torch.randn(2, 16, 9, 12, generator=torch.Generator().manual_seed(bits)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    bias = torch.linspace(-1, 1, 8)
    arguments = (4, 0.8, (1, 1), (1, 1))
    expected = reference.Conv2d(weight, *arguments, bias).forward_upsampled(x)
    assert expected.shape == (2, 8, 18, 24)
    for backend, device in places(dtype):
        y = backend.Conv2d(on(device, weight), *arguments, bias.to(device), fuse_upsample=True).forward_upsampled(
            x.to(device)
        )
        torch.testing.assert_close(y.cpu(), expected, rtol=0 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)


@pytest.mark.parametrize("activation_bits", [3, 4, 6, 7, 8])
@pytest.mark.parametrize("loudness", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
def test_tokens_in_bfloat16_get_the_reference_codes(activation_bits: int, loudness: float, share: float | None) -> None:
    zero_point = zero_point_of(share, activation_bits)
    weight = low_bit_weight((8, 48), 4, 0)
    x = (torch.randn(300, 48, generator=torch.Generator().manual_seed(activation_bits)) * loudness).bfloat16()
    kernel = reference.Linear(weight, activation_bits, 0.7, zero_point=zero_point)
    expected, scale = kernel.codes(x)
    exact = (x.double() / scale.double()).clamp(*code_range(activation_bits, zero_point))
    # Half to even, but for what the division rounds to bfloat16's eight bits.
    assert (expected - exact).abs().max() <= 0.5 + largest_magnitude(activation_bits, zero_point) * 2**-8
    for backend, device in places(torch.bfloat16):
        other = backend.Linear(on(device, weight), activation_bits, 0.7, zero_point=zero_point)
        codes, same_scale = other.codes(x.to(device))
        assert torch.equal(codes.cpu().int() - getattr(other, "zero", 0), expected.int())
        assert torch.equal(scale, same_scale.cpu())
        assert torch.equal(other(x.to(device)).cpu(), kernel(x))


@pytest.mark.parametrize("wide", [1, 1 << 30], ids=["columns", "convolution"])
@pytest.mark.parametrize("strip", [1, 1000, 1 << 30])
@pytest.mark.parametrize("shape", [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 1, 2), (1, 2, 1)])
def test_every_way_to_a_product_is_the_same(monkeypatch: pytest.MonkeyPatch, shape, strip: int, wide: int) -> None:
    onednn = BACKENDS["onednn"]
    if reason := onednn.unavailable(CPU):
        pytest.skip(reason)
    from quantface_core.kernels.onednn import product

    monkeypatch.setattr(product, "_STRIP", strip)
    monkeypatch.setattr(product, "_WIDE", wide)
    taps, stride, padding = shape
    weight = low_bit_weight((24, 16, taps, taps), 4, 0)
    x = torch.randn(2, 16, 13, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    arguments = (weight, 4, 0.8, (stride, stride), (padding, padding), torch.linspace(-1, 1, 24))
    assert torch.equal(onednn.Conv2d(*arguments)(x), reference.Conv2d(*arguments)(x))


@pytest.fixture
def winograd(monkeypatch: pytest.MonkeyPatch):
    """The room of transformed convolutions, made to transform small ones, however much they spill."""
    if reason := BACKENDS["onednn"].unavailable(CPU):
        pytest.skip(reason)
    from quantface_core.kernels.onednn import winograd

    small = {"_PAYS": {False: (8, 1), True: (8, 1)}, "_FEWEST": 1, "_WINDOWS": 10, "_SPILL": 16}
    for name, value in small.items():
        monkeypatch.setattr(winograd, name, value)
    return winograd


@pytest.mark.parametrize("loud", [False, True], ids=["random", "extreme"])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
@pytest.mark.parametrize("bits", [(3, 3), (4, 3), (4, 4), (4, 6), (3, 5), (5, 5), (6, 6)])
def test_transformed_convolutions_are_the_same_to_the_bit(winograd, bits, share: float | None, loud: bool) -> None:
    weight_bits, activation_bits = bits
    zero_point = zero_point_of(share, activation_bits)
    if not winograd.fits((24, 16, 3, 3), weight_bits, activation_bits, (1, 1)):
        pytest.skip("products of so large bytes saturate here")
    weight = low_bit_weight((24, 16, 3, 3), weight_bits, 0)
    x = torch.randn(2, 16, 12, 14, generator=torch.Generator().manual_seed(0))
    if loud:  # every code at a limit: in half the outputs alike, or the signs as they fall
        signs = weight.codes().sign()
        signs[::2] = 1
        x, weight = x.sign(), replace(weight, packed=pack(signs * largest_code(weight_bits), weight_bits))
    for padding in (0, 1):
        for dtype in (torch.float32, torch.bfloat16):
            arguments = (weight, activation_bits, 1.0, (1, 1), (padding, padding), torch.linspace(-1, 1, 24))
            kernel, plain = (kind.Conv2d(*arguments, zero_point=zero_point) for kind in (BACKENDS["onednn"], reference))
            assert torch.equal(kernel(x.to(dtype)), plain(x.to(dtype)))
            assert kernel._winograd is not None
            if padding:
                assert torch.equal(kernel.forward_upsampled(x.to(dtype)), plain.forward_upsampled(x.to(dtype)))
                assert kernel._winograd_upsample is not None or not kernel.fuses_upsample


def test_transformed_convolutions_of_many_channels_are_the_same_to_the_bit(winograd) -> None:
    if not winograd.fits((8, 2560, 3, 3), 6, 6, (1, 1)):
        pytest.skip("products of so large bytes saturate here")
    generator = torch.Generator().manual_seed(0)
    codes = (torch.randn(8, 2560, 3, 3, generator=generator) * 9).round().clamp(-31, 31).to(torch.int8)
    weight = LowBitWeight(pack(codes, 6), torch.rand(8, generator=generator) + 0.5, 6, codes.shape)
    # Windows that fall on a tile meet its weights' signs: the largest sum there is.
    x = codes[:1].sign().float().tile(1, 1, 4, 4)
    arguments = (weight, 6, 1.0, (1, 1), (1, 1))
    kernel, plain = BACKENDS["onednn"].Conv2d(*arguments), reference.Conv2d(*arguments)
    assert torch.equal(kernel(x), plain(x))
    assert torch.equal(kernel.forward_upsampled(x), plain.forward_upsampled(x))
    assert kernel._winograd is not None


def test_what_no_byte_holds_is_multiplied_apart(winograd) -> None:
    if not winograd.exact(255, 127):
        pytest.skip("products of so large bytes saturate here")
    weight = torch.zeros(24, 16, dtype=torch.int16)
    weight[3, 5], weight[3, 7], weight[20, 5] = 279, -128, 255
    point = winograd.Point(weight, 0.5)
    assert (point.outputs.tolist(), point.channels.tolist()) == ([3, 20], [5, 7])
    assert point.outliers == 2
    x = torch.randint(0, 256, (40, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    exact = (x.double() - 128) @ weight.double().t() / 2
    assert torch.equal(point(x, 128).double(), exact)


def test_kernels_that_spill_much_are_multiplied_plainly(winograd, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.full((24, 16, 3, 3), 31, dtype=torch.int8)
    arguments = (torch.ones(24), None, 6)
    assert winograd.Winograd.of(codes, *arguments) is not None
    monkeypatch.setattr(winograd, "_SPILL", 0.05)
    assert winograd.Winograd.of(codes, *arguments) is None
    codes[:, 1:] = 14  # 9 of which fit into a byte
    assert winograd.Winograd.of(codes, *arguments) is not None


@pytest.mark.parametrize(("bits", "channels"), [((4, 4), 9510), ((4, 6), 2147), ((6, 6), 484)])
def test_kernels_are_transformed_where_it_is_exact(winograd, bits, channels: int) -> None:
    """Up to the channels with which a window of the largest codes still has sums that float32 knows."""
    weight_bits, activation_bits = bits
    for count, exact in ((channels, True), (channels + 1, False)):
        codes = torch.full((8, count, 3, 3), largest_code(weight_bits), dtype=torch.int8)
        assert (winograd.Winograd.of(codes, torch.ones(8), None, activation_bits) is not None) == exact


@pytest.mark.parametrize(
    ("shape", "bits", "stride", "fits"),
    [
        ((256, 256, 3, 3), (4, 4), (1, 1), True),
        ((256, 256, 3, 3), (6, 6), (1, 1), True),
        ((256, 96, 3, 3), (4, 4), (1, 1), False),
        ((256, 256, 3, 3), (7, 4), (1, 1), False),
        ((256, 256, 3, 3), (4, 7), (1, 1), False),
        ((256, 256, 3, 3), (4, 4), (2, 2), False),
        ((256, 256, 1, 1), (4, 4), (1, 1), False),
    ],
)
@needs_onednn
def test_kernels_with_room_are_transformed(shape, bits, stride, fits: bool) -> None:
    from quantface_core.kernels.onednn import saturation, winograd

    assert winograd.fits(shape, *bits, stride) == (fits and (bits[0] <= 4 or not saturation.saturates()))


def test_slow_products_are_transformed_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantface_core.kernels.onednn import saturation, winograd

    for saturates in (True, False):
        for module in (saturation, winograd):
            monkeypatch.setattr(module, "saturates", lambda found=saturates: found)
        assert winograd.fits((128, 256, 3, 3), 4, 4, (1, 1)) == saturates
        assert winograd.Winograd.pays(torch.empty(34, 34, 256), 256) == saturates


@pytest.mark.parametrize(
    ("height", "width", "channels", "pays"),
    [(64, 64, 256, True), (32, 32, 128, False), (16, 16, 1280, True), (8, 8, 1280, False), (65, 64, 256, False)],
)
@needs_onednn
def test_odd_and_small_maps_are_not_transformed(height: int, width: int, channels: int, pays: bool) -> None:
    from quantface_core.kernels.onednn import winograd

    assert winograd.Winograd.pays(torch.empty(height + 2, width + 2, channels), channels) == pays


def test_a_torch_that_multiplies_in_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before 2.4: the backend says so instead of failing at the first picture."""
    onednn = BACKENDS["onednn"]
    if reason := onednn.unavailable(CPU):
        pytest.skip(reason)
    monkeypatch.setattr(onednn, "known", lambda: False)
    vars(onednn)["unavailable"].cache_clear()
    try:
        assert "it takes 2.4" in str(onednn.unavailable(CPU))
        assert choose_backend(CPU) is BACKENDS["reference"]
    finally:
        vars(onednn)["unavailable"].cache_clear()


def test_backends_have_the_names_that_users_choose_from() -> None:
    assert tuple(BACKENDS) == NAMES
    assert ("auto", *NAMES) == CHOICES
