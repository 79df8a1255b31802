"""Why the backend cannot run: its own test, and what precedes that."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels import triton
from tests.kernels.triton.draws import DEVICE

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import self_test


def test_a_trial_tells_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert triton._self_test_failure(DEVICE) is None
    monkeypatch.setattr(self_test, "group_norm", lambda x, *_: x)
    assert triton._self_test_failure(DEVICE) == "its results are wrong here"
    monkeypatch.setattr(self_test, "group_norm", lambda *_: 1 / 0)
    assert triton._self_test_failure(DEVICE) == "Triton cannot compile here (division by zero)"


def test_it_says_why_it_cannot_run() -> None:
    assert "not on cpu" in triton.unavailable(torch.device("cpu"))
    if torch.cuda.is_available():
        assert triton.unavailable(DEVICE) is None
