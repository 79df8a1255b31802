"""Whether autocast is on, on any kind of device and with the names that torch had before 2.4."""

from __future__ import annotations

import pytest
import torch

from quantface_core.runtime.autocast import autocast_dtype, autocasts, under_autocast, without_autocast


@pytest.mark.parametrize("on", [False, True])
def test_it_is_the_dtype_where_autocast_is_on(on: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=on):
        assert autocast_dtype("cpu") == (torch.bfloat16 if on else None)
        with without_autocast(torch.device("cpu")):
            assert autocast_dtype("cpu") is None


def test_devices_without_autocast_have_none() -> None:
    assert autocast_dtype("meta") is None


def forget_names_of_2_4(patch: pytest.MonkeyPatch) -> None:
    """As A1111 (torch 2.1) and Forge (2.3) have it."""
    patch.delattr(torch.amp, "is_autocast_available")
    patch.delattr(torch, "get_autocast_dtype")
    patch.setattr(torch, "is_autocast_enabled", lambda: False)


@pytest.mark.filterwarnings("ignore:torch.(is|get)_autocast:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("old", [False, True])
def test_the_dtype_of_autocast_is_found(dtype: torch.dtype, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.autocast("cpu", dtype), monkeypatch.context() as patch:
        if old:
            forget_names_of_2_4(patch)
        assert autocast_dtype("cpu") == dtype
        assert autocasts(torch.empty(1))
        assert not autocasts(torch.empty(1, device="meta"))  # has no autocast
        assert autocast_dtype("cuda") is None
        if old:
            patch.setattr(torch, "is_autocast_enabled", lambda: True)
            patch.setattr(torch, "get_autocast_gpu_dtype", lambda: torch.float16)
            assert autocast_dtype("cuda") == torch.float16
    assert autocast_dtype("cpu") is None


@pytest.mark.parametrize("given", [torch.float32, torch.float16, torch.float64])
def test_inputs_are_cast_as_autocast_casts_them(given: torch.dtype) -> None:
    def compute(x: torch.Tensor) -> tuple[torch.dtype, bool]:
        return x.dtype, autocasts(x)

    with torch.autocast("cpu", torch.bfloat16):
        found, on = under_autocast(compute, torch.ones(2, dtype=given))
    assert found == (torch.float64 if given == torch.float64 else torch.bfloat16)
    assert not on
