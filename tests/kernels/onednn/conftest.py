"""Transformed convolutions and strips are tested on CPUs with matrix units too, which would not use them."""

from __future__ import annotations

import pytest

from quantface_core.kernels.onednn import product, winograd


@pytest.fixture(autouse=True)
def without_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (product, winograd):
        monkeypatch.setattr(module, "has_matrix_units", lambda: False)
