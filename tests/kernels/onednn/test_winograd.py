"""Transformed convolutions: the reference's results, where they are exact and pay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantface_core.kernels import onednn, reference
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.onednn import saturation, winograd
from quantface_core.kernels.quantize import largest_code
from quantface_core.kernels.weight import LowBitWeight
from tests.kernels.backends import CPU, conv2d_spec, low_bit_weight, needs_onednn, zero_point_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions are transformed too, however much they spill."""
    if reason := onednn.unavailable(CPU):
        pytest.skip(reason)
    values = {"_PAYS": {False: (8, 1), True: (8, 1)}, "_FEWEST": 1, "_WINDOWS": 10, "_SPILL": 16}
    for name, value in values.items():
        monkeypatch.setattr(winograd, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("loud", [False, True], ids=["random", "extreme"])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 1 / 2])
@pytest.mark.parametrize("bits", [(3, 3), (4, 3), (4, 4), (4, 6), (3, 5), (5, 5), (6, 6)])
def test_transformed_convolutions_are_the_same_to_the_bit(bits, share: float | None, loud: bool) -> None:
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
            sides = {"padding": (padding, padding), "bias": torch.linspace(-1, 1, 24)}
            spec = conv2d_spec(weight, activation_bits, 1.0, zero_point, **sides)
            kernel, plain = onednn.Conv2d(spec), reference.Conv2d(spec)
            assert torch.equal(kernel(x.to(dtype)), plain(x.to(dtype)))
            assert kernel._winograd is not None
            if padding:
                assert torch.equal(kernel.forward_upsampled(x.to(dtype)), plain.forward_upsampled(x.to(dtype)))
                assert kernel._winograd_upsample is not None or not kernel.fuses_upsample


@pytest.mark.usefixtures("small")
def test_transformed_convolutions_of_many_channels_are_the_same_to_the_bit() -> None:
    if not winograd.fits((8, 2560, 3, 3), 6, 6, (1, 1)):
        pytest.skip("products of so large bytes saturate here")
    generator = torch.Generator().manual_seed(0)
    codes = (torch.randn(8, 2560, 3, 3, generator=generator) * 9).round().clamp(-31, 31).to(torch.int8)
    weight = LowBitWeight(pack(codes, 6), torch.rand(8, generator=generator) + 0.5, 6, codes.shape)
    # Windows that fall on a tile meet its weights' signs: the largest sum there is.
    x = codes[:1].sign().float().tile(1, 1, 4, 4)
    spec = conv2d_spec(weight, 6, padding=(1, 1))
    kernel, plain = onednn.Conv2d(spec), reference.Conv2d(spec)
    assert torch.equal(kernel(x), plain(x))
    assert torch.equal(kernel.forward_upsampled(x), plain.forward_upsampled(x))
    assert kernel._winograd is not None


@pytest.mark.usefixtures("small")
def test_kernels_with_many_values_beyond_int8_are_not_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.full((24, 16, 3, 3), 31, dtype=torch.int8)
    arguments = (torch.ones(24), None, 6)
    assert winograd.Winograd.of(codes, *arguments) is not None
    monkeypatch.setattr(winograd, "_SPILL", 0.05)
    assert winograd.Winograd.of(codes, *arguments) is None
    codes[:, 1:] = 14  # 9 of which fit into a byte
    assert winograd.Winograd.of(codes, *arguments) is not None


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("bits", "channels"), [((4, 4), 9510), ((4, 6), 2147), ((6, 6), 484)])
def test_kernels_are_transformed_where_it_is_exact(bits, channels: int) -> None:
    """Up to the channels with which a window of the largest codes still has sums that float32 knows."""
    weight_bits, activation_bits = bits
    for count, exact in ((channels, True), (channels + 1, False)):
        codes = torch.full((8, count, 3, 3), largest_code(weight_bits), dtype=torch.int8)
        assert (winograd.Winograd.of(codes, torch.ones(8), None, activation_bits) is not None) == exact


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("channels", "exact"), [(2182, True), (2183, False)])
def test_kernels_of_single_taps_are_transformed_where_the_inverse_is_exact(channels: int, exact: bool) -> None:
    """Their products are smaller than the sums that the inverse transform makes of them."""
    codes = torch.zeros(8, channels, 3, 3, dtype=torch.int8)
    codes[:, :, 0, 0] = largest_code(6)
    assert (winograd.Winograd.of(codes, torch.ones(8), None, 6) is not None) == exact


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
def test_kernels_with_headroom_are_transformed(shape, bits, stride, fits: bool) -> None:
    assert winograd.fits(shape, *bits, stride) == (fits and (bits[0] <= 4 or not saturation.saturates()))


def test_saturating_cpus_transform_smaller_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for saturates in (True, False):
        for module in (saturation, winograd):
            monkeypatch.setattr(module, "saturates", lambda found=saturates: found)
        assert winograd.fits((128, 256, 3, 3), 4, 4, (1, 1)) == saturates
        assert winograd.Winograd.pays(torch.empty(34, 34, 256), 256) == saturates


@needs_onednn
def test_nothing_is_transformed_with_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = conv2d_spec(low_bit_weight((256, 256, 3, 3), 4, 0), 4, padding=(1, 1))
    assert onednn.Conv2d(spec).transforms
    monkeypatch.setattr(winograd, "has_matrix_units", lambda: True)
    assert not onednn.Conv2d(spec).transforms


@pytest.mark.parametrize(
    ("height", "width", "channels", "pays"),
    [(64, 64, 256, True), (32, 32, 128, False), (16, 16, 1280, True), (8, 8, 1280, False), (65, 64, 256, False)],
)
@needs_onednn
def test_odd_and_small_maps_are_not_transformed(height: int, width: int, channels: int, pays: bool) -> None:
    assert winograd.Winograd.pays(torch.empty(height + 2, width + 2, channels), channels) == pays
