"""Training of the network that repairs scratches: what it is shown, and that it learns."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def photos(module: ModuleType) -> Any:
    """Two smooth pictures as faces, and a larger one."""
    y, x = np.mgrid[:256, :256] / 256
    picture = np.stack([x, y, 1 - x], -1)
    faces = np.rint(255 * np.stack([picture, picture**2])).astype(np.uint8)
    return module.Photos(faces, [np.tile(faces[0], (2, 3, 1))])


def test_it_learns(module: ModuleType, photos: Any) -> None:
    trainer = module.trainer_of(2e-3, 24)
    batch = module.Examples(photos, 2, range(1))[0]
    losses = [trainer.update(*batch) for _ in range(24)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_a_batch_depends_on_its_step_alone(module: ModuleType, photos: Any) -> None:
    one, again = (module.Examples(photos, 3, range(start, 9))[5 - start] for start in (0, 3))
    other = module.Examples(photos, 3, range(9))[6]
    assert [tuple(part.shape) for part in one] == [(3, 3, 128, 128), (3, 3, 128, 128), (3, 1, 128, 128)]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))


def test_damage_is_to_be_found_where_it_is(module: ModuleType, photos: Any) -> None:
    rng = np.random.default_rng(0)
    shares = [module.example(photos, rng, whole=0.0)[2].mean() for _ in range(30)]
    assert 0.01 < np.mean(shares) < 0.3
    assert all(module.example(photos, rng, whole=1.0)[2].max() == 0 for _ in range(5))


def test_its_report_counts_what_is_found(module: ModuleType, photos: Any) -> None:
    class Finder(torch.nn.Module):
        """Takes everything for damage, and draws black."""

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros_like(image), torch.ones_like(image[:, :1])

    told = module.report(Finder(), photos)
    assert "recall 1.000" in told
    assert told.endswith("false 1.00000")
