"""Widths in words and back."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.types import BITS, BitPlan, Bits, Budget, LayerSensitivity, Sensitivity


@given(st.sampled_from(BITS), st.sampled_from(BITS))
def test_widths_are_written_and_read(weight: int, activation: int) -> None:
    assert Bits.parse(str(Bits(weight, activation))) == (weight, activation)


@pytest.mark.parametrize("text", ["", "w4", "w4a9", "w1a4", "W4A4", "w4a4 ", "w44a4", "int8"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not wXaY"):
        Bits.parse(text)


def test_all_can_be_keys() -> None:
    layer = LayerSensitivity(1, 1, 1, None, {4: 0.5}, {4: 0.5}, error=0.1, perceptual=0.0)
    measured = Sensitivity("net", "", 0, {"a": layer})
    for value in (Budget(limits={"vae": (4, 8)}), BitPlan("net", {"a": Bits(4, 6)}), layer, measured):
        assert {value: 1}[copy.deepcopy(value)] == 1
    assert Budget(limits={"vae": (4, 8)}) != Budget()
