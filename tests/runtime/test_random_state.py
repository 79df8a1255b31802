"""Random draws depend on the seed of a block alone, and leave no trace."""

from __future__ import annotations

import pytest
import torch

from quantface_core.runtime.random_state import seeded


def test_a_seed_decides_what_is_drawn() -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.rand(5)
        with seeded(seed):
            drawn.append(torch.randn(4))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_state_is_as_it_was_also_after_an_error() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with pytest.raises(RuntimeError), seeded(1):
        torch.rand(2) @ torch.rand(3)
    assert torch.equal(torch.rand(3), expected)


def test_apple_s_gpu_draws_by_the_seed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a generator of its own, which this machine's stands for."""
    gpu = torch.Generator()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", gpu.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", gpu.set_state)
    monkeypatch.setattr(torch.mps, "manual_seed", gpu.manual_seed)
    before, drawn = gpu.get_state(), []
    for _ in range(2):
        with seeded(3):
            drawn.append(torch.rand(4, generator=gpu))
    assert torch.equal(*drawn)
    assert torch.equal(gpu.get_state(), before)
