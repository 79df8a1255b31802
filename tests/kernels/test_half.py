"""Codes carried as float16, against exact sums: how near, and that none is too large."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from quantface_core.kernels import half, reference, triton
from quantface_core.kernels.backend import Backend
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.kernels.quantize import largest_code
from quantface_core.kernels.weight import LowBitWeight
from quantface_core.kernels.weight_cache import CachedWeight
from tests.kernels.backends import conv2d_spec, linear_spec, places


def weight(shape: tuple[int, ...], bits: int, full: bool = False) -> LowBitWeight:
    limit, generator = largest_code(bits), torch.Generator().manual_seed(bits)
    codes = torch.randint(-limit, limit + 1, shape, generator=generator).to(torch.int8)
    codes = torch.full_like(codes, limit) if full else codes
    return LowBitWeight(pack(codes, bits), torch.rand(shape[0], generator=generator) + 0.1, bits, shape)


def decibels(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(10 * torch.log10(exact.double().square().mean() / (found.double() - exact.double()).square().mean()))


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(3, 3), (4, 4), (4, 6), (6, 6), (8, 8)])
def test_products_match_the_reference_up_to_float16_rounding(weight_bits: int, activation_bits: int) -> None:
    x = torch.randn(40, 640, generator=torch.Generator().manual_seed(0))
    linear = linear_spec(weight((48, 640), weight_bits), activation_bits, 0.9, bias=torch.linspace(-1, 1, 48))
    assert torch.equal(half.Linear(linear).codes(x)[0], reference.Linear(linear).codes(x)[0])
    assert decibels(half.Linear(linear)(x), reference.Linear(linear)(x)) > 65  # bfloat16's rounding is some 50
    maps = torch.randn(2, 64, 9, 10, generator=torch.Generator().manual_seed(1))
    more = {"padding": (1, 1), "bias": torch.linspace(-1, 1, 24)}
    conv = conv2d_spec(weight((24, 64, 3, 3), weight_bits), activation_bits, 0.9, **more)
    ours, plain = half.Conv2d(conv), reference.Conv2d(conv)
    assert decibels(ours(maps), plain(maps)) > 65
    assert decibels(ours.forward_upsampled(maps), plain.forward_upsampled(maps)) > 65


def test_the_largest_sums_do_not_overflow_float16() -> None:
    """Of codes all at their limit, over as many inputs as the widest layers have."""
    spec = linear_spec(weight((4, 23040), 8, full=True), 8)
    x = torch.full((2, 23040), -3.0)
    found = half.Linear(spec)(x)
    assert found.isfinite().all()
    torch.testing.assert_close(found, reference.Linear(spec)(x), rtol=2**-10, atol=0)


def test_the_self_test_detects_broken_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert half.agrees.__wrapped__(torch.device("cpu"))
    convolve = torch.nn.functional.conv2d

    def broken(x: torch.Tensor, *given: object) -> torch.Tensor:
        y = convolve(x, *given)
        return y * torch.nan if x.dtype == torch.half else y

    monkeypatch.setattr(half.F, "conv2d", broken)
    assert not half.agrees.__wrapped__(torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_self_test_ignores_autocast_and_inference_mode(dtype: torch.dtype) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        assert half.agrees.__wrapped__(torch.device("cpu"))


@pytest.mark.parametrize("allowed", [True, False])
def test_cublas_accumulates_in_float32(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host has set, as ComfyUI's --fast does; its setting is back afterwards."""
    settings = SimpleNamespace(allow_fp16_reduced_precision_reduction=allowed, allow_fp16_accumulation=allowed)
    monkeypatch.setattr(torch.backends.cuda, "matmul", settings)
    during: list[dict[str, bool]] = []

    def codes(self: CachedWeight) -> torch.Tensor:
        during.append(dict(vars(settings)))
        raise MemoryError

    monkeypatch.setattr(CachedWeight, "__call__", codes)
    with pytest.raises(MemoryError):
        half.Linear(linear_spec(weight((4, 64), 4), 4))(torch.ones(2, 64))
    assert during == [dict.fromkeys(vars(settings), False)]
    assert vars(settings) == dict.fromkeys(vars(settings), allowed)


def test_it_is_not_held_to_exact_results_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "unavailable", lambda _: None)
    assert half not in [backend for backend, _ in places()]


def test_the_self_test_detects_sums_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.Tensor.__matmul__

    def in_float16(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Partial sums of 16 products are joined in float16."""
        if x.dtype != torch.half:
            return multiply(x, y)
        parts = zip(x.split(16, dim=1), y.split(16), strict=True)
        return sum((multiply(a.float(), b.float()).half() for a, b in parts), start=x.new_zeros(()))

    monkeypatch.setattr(torch.Tensor, "__matmul__", in_float16)
    assert not half.agrees.__wrapped__(torch.device("cpu"))


def as_a_gpu(monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> torch.device:
    """A device of torch's module `kind` that is said to be there, and to pass the self-test."""
    monkeypatch.setattr(getattr(torch, kind), "is_available", lambda: True)
    monkeypatch.setattr(getattr(torch, kind), "get_device_name", lambda _: name)
    monkeypatch.setattr(half, "agrees", lambda _: True)
    return torch.device(kind)


def test_half_is_chosen_where_triton_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not on cpu" in str(half.unavailable(torch.device("cpu")))
    assert "not on mps" in str(half.unavailable(torch.device("mps")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no such GPU" in str(half.unavailable(torch.device("cuda")))
    nvidia = as_a_gpu(monkeypatch, "cuda", "GeForce")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    for capability, chosen in (((7, 5), half), ((6, 1), reference)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert chosen_on(nvidia, slow=True) is chosen


def test_half_is_chosen_on_amd_and_intel_unless_its_self_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    for kind, name in (("cuda", "Radeon"), ("xpu", "Arc")):
        gpu = as_a_gpu(monkeypatch, kind, name)
        assert chosen_on(gpu, slow=kind == "cuda") is half
        monkeypatch.setattr(half, "agrees", lambda _: False)
        assert half.unavailable(gpu) == f"{name} computes wrong float16 products"
        assert chosen_on(gpu, slow=kind == "cuda") is reference


def chosen_on(device: torch.device, slow: bool) -> Backend:
    """What `auto` chooses, whether or not it warns that low-bit layers are slow."""
    triton.unavailable.cache_clear()
    try:
        with pytest.warns(UserWarning, match="slow") if slow else nullcontext():
            return choose_backend(device, "auto")
    finally:
        triton.unavailable.cache_clear()
