"""Transformed convolutions are tested on CPUs with matrix units too, which would not use them."""

from __future__ import annotations

import pytest

from quantface_core.kernels.onednn import winograd


@pytest.fixture(autouse=True)
def without_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "has_matrix_units", lambda: False)
