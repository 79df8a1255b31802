"""Training of the network that removes noise: it learns, and goes on after a stop exactly where it was."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Two smooth pictures [2, 256, 256, 3]."""
    y, x = np.mgrid[:256, :256] / 256
    picture = np.stack([x, y, 1 - x], -1)
    return np.rint(255 * np.stack([picture, picture**2])).astype(np.uint8)


def test_it_learns(module: ModuleType, faces: np.ndarray) -> None:
    trainer = module.trainer_of(2e-3, 30)
    losses = [trainer.update(*module.batch(faces, 4, trainer.step)) for _ in range(30)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])


def test_a_stopped_run_resumes_exactly(module: ModuleType, faces: np.ndarray, tmp_path: Path) -> None:
    straight = module.trainer_of(2e-3, 4)
    torch.manual_seed(0)
    stopped = module.trainer_of(2e-3, 4)
    for _ in range(4):
        straight.update(*module.batch(faces, 2, straight.step))
    for _ in range(2):
        stopped.update(*module.batch(faces, 2, stopped.step))
    stopped.save_state(tmp_path / "run.state")
    resumed = module.trainer_of(2e-3, 4)
    resumed.load_state(tmp_path / "run.state")
    assert resumed.step == 2
    for _ in range(2):
        resumed.update(*module.batch(faces, 2, resumed.step))
    for one, other in zip(straight.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_batch_depends_on_its_step_alone(module: ModuleType, faces: np.ndarray) -> None:
    for one, again, other in zip(*(module.batch(faces, 3, step) for step in (5, 5, 6)), strict=True):
        assert one.shape == (3, 3, 64, 64)
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_the_noise_is_what_parts_a_pair(module: ModuleType, faces: np.ndarray) -> None:
    noisy, clean = module.batch(faces, 32, 0)
    levels = (noisy - clean).std((1, 2, 3)) * 255
    assert levels.min() < 8
    assert 20 < levels.max() < 60
    assert abs(float((noisy - clean).mean())) * 255 < 2
