"""Widths in words and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.types import BITS, Bits


@given(st.sampled_from(BITS), st.sampled_from(BITS))
def test_widths_are_written_and_read(weight: int, activation: int) -> None:
    assert Bits.parse(str(Bits(weight, activation))) == (weight, activation)


@pytest.mark.parametrize("text", ["", "w4", "w4a9", "w1a4", "W4A4", "w4a4 ", "w44a4", "int8"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not wXaY"):
        Bits.parse(text)
