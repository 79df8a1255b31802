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
