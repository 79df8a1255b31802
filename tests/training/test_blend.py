"""Training of the blend network: what a step sees."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch


def test_a_batch_depends_on_its_step_alone(module: ModuleType) -> None:
    pairs = some_pairs(module)
    weights = np.full(4, 0.25)
    one, again, other = (module.batch(pairs, weights, 3, step, True) for step in (5, 5, 6))
    assert [images.shape for images in one] == [(3, 3, 256, 256)] * 4
    assert all(map(torch.equal, one, again))
    assert not torch.equal(one[0], other[0])


def test_what_a_small_photo_cannot_show_of_a_restored_face_does_not_count(module: ModuleType) -> None:
    pairs = some_pairs(module)
    weights = np.array([0, 0, 0, 1.0])  # the face of 64 pixels
    _, restored, _, pasted = module.batch(pairs, weights, 2, 0, False)
    fine = [float((x - torch.nn.functional.avg_pool2d(x, 5, 1, 2)).square().mean()) for x in (restored, pasted)]
    assert fine[1] < 0.1 * fine[0]


def test_pairs_are_read_back_from_files(module: ModuleType, tmp_path: Path) -> None:
    pairs = some_pairs(module)
    np.savez(tmp_path / "pairs.npz", **pairs._asdict())
    both = module.load_pairs([tmp_path / "pairs.npz"] * 2)
    assert np.array_equal(both.faces[4:], pairs.faces)
    assert np.array_equal(both.sides[4:], pairs.sides)


def some_pairs(module: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """Four pairs of noise."""
    faces = np.random.default_rng(0).integers(0, 256, (4, 3, 256, 256, 3), np.uint8)
    pairs: tuple[np.ndarray, np.ndarray] = module.Pairs(faces, np.array([256, 200, 256, 64]))
    return pairs
