"""Which products of bytes are exact on this CPU."""

from __future__ import annotations

import pytest

from quantface_core.kernels import onednn
from quantface_core.kernels.onednn import saturation, winograd
from quantface_core.types import BITS
from tests.kernels.backends import needs_onednn


@needs_onednn
def test_widths_that_saturate_are_left_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for saturates in (True, False):
        monkeypatch.setattr(saturation, "saturates", lambda found=saturates: found)
        widths = [(w, x) for w in BITS for x in BITS if not onednn.supports(w, x)]
        assert widths == ([(8, 8)] if saturates else [])
        kernel = (256, 256, 3, 3)
        room = [bits for bits in BITS if winograd.fits(kernel, bits, 4, (1, 1))]
        assert room == [bits for bits in BITS if bits <= (4 if saturates else 6)]


@needs_onednn
def test_the_largest_trusted_products_are_exact() -> None:
    assert saturation.adds_up(255, 64)
    assert saturation.adds_up(129, 127)
    assert saturation.adds_up(255, 127) != saturation.saturates()
