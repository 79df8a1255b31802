"""Products of oneDNN, by each of its kernels."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels import onednn, reference
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.kernels.onednn import product
from tests.kernels.backends import CPU, conv2d_spec, low_bit_weight, needs_onednn


@needs_onednn
@pytest.mark.parametrize("wide", [1, 1 << 30], ids=["columns", "convolution"])
@pytest.mark.parametrize("strip", [1, 1000, 1 << 30])
@pytest.mark.parametrize("matrix_units", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 1, 2), (1, 2, 1)])
def test_every_kernel_gives_the_same_product(
    monkeypatch: pytest.MonkeyPatch, shape, matrix_units: bool, strip: int, wide: int
) -> None:
    monkeypatch.setattr(product, "has_matrix_units", lambda: matrix_units)
    monkeypatch.setattr(product, "_STRIP", strip)
    monkeypatch.setattr(product, "_WIDE", wide)
    taps, stride, padding = shape
    weight = low_bit_weight((24, 16, taps, taps), 4, 0)
    x = torch.randn(2, 16, 13, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    sides = {"stride": (stride, stride), "padding": (padding, padding)}
    spec = conv2d_spec(weight, 4, 0.8, bias=torch.linspace(-1, 1, 24), **sides)
    assert torch.equal(onednn.Conv2d(spec)(x), reference.Conv2d(spec)(x))


@needs_onednn
def test_an_old_torch_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before 2.4: the backend says so instead of failing at the first picture."""
    monkeypatch.setattr(onednn, "known", lambda: False)
    onednn.unavailable.cache_clear()
    try:
        assert "update to torch 2.4" in str(onednn.unavailable(CPU))
        assert choose_backend(CPU, "auto") is reference
    finally:
        onednn.unavailable.cache_clear()
