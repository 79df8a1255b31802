"""Whether autocast is on, asked of kinds of devices with and without it."""

from __future__ import annotations

import pytest
import torch

from quantface_core.runtime.autocast import autocast_dtype, without_autocast


@pytest.mark.parametrize("on", [False, True])
def test_it_is_the_dtype_where_autocast_is_on(on: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=on):
        assert autocast_dtype("cpu") == (torch.bfloat16 if on else None)
        with without_autocast(torch.device("cpu")):
            assert autocast_dtype("cpu") is None


def test_devices_without_autocast_have_none() -> None:
    assert autocast_dtype("meta") is None
