"""Faces followed through frames: steadier, without lag, without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_core.errors import UsageError
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.track import steady
from quantface_core.types import Face


def _at(x: float, y: float = 40.0, size: float = 60.0) -> Face:
    return face_in_box((x, y, size, size * 1.5))


def _moved(face: Face, by: np.ndarray) -> Face:
    return Face(face.box, tuple(map(tuple, (np.array(face.landmarks) + by).tolist())), face.score)


def _landmarks(frames: list[tuple[Face, ...]]) -> np.ndarray:
    return np.array([[face.landmarks for face in faces] for faces in frames])


def test_trembling_is_smoothed_and_a_moving_head_does_not_lag() -> None:
    draws = np.random.default_rng(0)
    exact = [[_at(20 + 3.0 * t)] for t in range(30)]
    seen = [[_moved(faces[0], draws.normal(0, 1, (5, 2)))] for faces in exact]
    truth, before, after = (_landmarks([tuple(f) for f in frames]) for frames in (exact, seen, steady(seen, 2.0)))
    assert np.abs(after - truth).mean() < 0.6 * np.abs(before - truth).mean()
    assert np.abs((after - truth).mean(axis=(0, 1, 2))).max() < 0.3  # no lag in x, where it moves
    np.testing.assert_allclose(_landmarks(steady(exact, 2.0)), truth, atol=1e-6)  # a straight way stays


def test_a_short_gap_is_closed_and_a_long_one_is_not() -> None:
    frames = [[_at(50.0 + t)] for t in range(16)]
    frames[4] = []
    frames[8:14] = [[]] * 6
    counts = [len(faces) for faces in steady(frames, 1.0)]
    assert counts[4] == 1
    assert counts[8:14] == [0] * 6


def test_two_people_stay_apart_in_any_order() -> None:
    frames = [[_at(10.0 + t), _at(200.0 - t)][:: 1 if t % 2 else -1] for t in range(10)]
    left = [min(face.box[0] for face in faces) for faces in steady(frames, 2.0)]
    assert [len(faces) for faces in steady(frames, 2.0)] == [2] * 10
    np.testing.assert_allclose(left, [10 + t for t in range(10)], atol=1e-6)


def test_a_sudden_move_is_followed() -> None:
    frames = [[_at(50.0 if t < 6 else 80.0)] for t in range(12)]
    moved = _landmarks(steady(frames, 3.0)) - _landmarks([tuple(f) for f in frames])
    assert np.abs(moved).max() <= 0.06 * _at(0).size + 1e-9


def test_nothing_changes_without_smoothing_or_with_one_frame() -> None:
    frames = [[_at(10)], [_at(14)], []]
    assert steady(frames, 0) == [tuple(faces) for faces in frames]
    assert steady(frames[:1], 2.0) == [tuple(frames[0])]
    with pytest.raises(UsageError, match="smoothing"):
        steady(frames, -1)
