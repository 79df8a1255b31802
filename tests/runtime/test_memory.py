"""Kept memory goes back when the last user is done; nesting and failures included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from quantface_core.runtime.memory import kept_memory

STATUS = Path("/proc/self/status")


def resident() -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", STATUS.read_text())[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's account of this process")
def test_memory_is_given_back_at_the_end() -> None:
    before = resident()
    with kept_memory(), kept_memory():
        maps = [torch.ones(64 << 20, dtype=torch.uint8) for _ in range(4)]
        del maps
    assert resident() < before + 64


def test_an_error_passes_through() -> None:
    with pytest.raises(ValueError, match="mine"), kept_memory():
        raise ValueError("mine")
