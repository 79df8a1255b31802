"""Contours back on their trajectories; nothing that moves by itself, and no camera that shakes, is taken for jitter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quantface_core.faces.align import Matrix, invert, resizing, shift
from quantface_core.faces.jitter import jitter
from quantface_core.faces.temporal import gaussian

SIDE = 64
NEAR = [offset for offset in range(-6, 7) if offset]
WEIGHTS = {offset: gaussian(offset, 3.0) for offset in NEAR}
STILL = {offset: np.eye(2, 3) for offset in NEAR}
SPEED = np.array([1.5, -0.5])
PLACE, OTHERS = np.s_[24:40, 24:40], np.s_[20:44, 50:60]


def _field(place: tuple[slice, ...], value: tuple[float, float]) -> NDArray[np.float32]:
    field = np.zeros((SIDE, SIDE, 2), np.float32)
    field[place] = value
    return field


def _flows(added: dict[int, NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
    """Steady motion, and what each frame adds to it."""
    none = np.zeros((SIDE, SIDE, 2), np.float32)
    flows = {offset: offset * SPEED + added.get(offset, none) - added.get(0, none) for offset in NEAR}
    return {offset: flow.astype(np.float32) for offset, flow in flows.items()}


def test_a_contour_beside_its_place_goes_back() -> None:
    found = jitter(_flows({0: _field(PLACE, (0.1, -0.06))}), STILL, WEIGHTS)
    np.testing.assert_allclose(found[32, 32], [-0.08, 0.05], atol=0.03)
    assert np.abs(found[OTHERS]).max() < 0.02


def test_what_moves_by_itself_stays() -> None:
    """Lips that part and close, in a period of eight frames."""
    added = {offset: _field(PLACE, (0.0, 2 * np.cos(offset * np.pi / 4))) for offset in range(-6, 7)}
    assert np.abs(jitter(_flows(added), STILL, WEIGHTS)).max() < 0.02


@pytest.mark.parametrize("far", [0.1, 2.0])
def test_a_camera_that_shakes_is_no_jitter(far: float) -> None:
    draws = np.random.default_rng(0)
    added = {offset: _field(np.s_[:, :], tuple(draws.normal(0, far, 2))) for offset in range(-6, 7)}
    assert np.abs(jitter(_flows(added), STILL, WEIGHTS)).max() < 1e-3


def test_a_crop_that_trembles_is_none_either() -> None:
    """Motion counts as it is in the picture, wherever the crops were taken from it."""
    draws = np.random.default_rng(0)
    crops: dict[int, Matrix] = {}
    for offset in NEAR:
        scale = float(draws.normal(1, 0.02))
        crops[offset] = resizing(1, 1, scale, scale) + shift(*draws.normal(0, 3, 2)) - np.eye(2, 3)  # type: ignore[call-overload]
    grid = np.indices((SIDE, SIDE), np.float64)[::-1].transpose(1, 2, 0)
    flows = {}
    for offset, flow in _flows({0: _field(PLACE, (0.1, 0.0))}).items():
        there = invert(crops[offset])
        flows[offset] = ((grid + flow) @ there[:, :2].T + there[:, 2] - grid).astype(np.float32)
    found = jitter(flows, crops, WEIGHTS)
    np.testing.assert_allclose(found[32, 32], [-0.08, 0.0], atol=0.03)


def test_a_few_frames_are_no_trajectory() -> None:
    flows = {1: np.full((SIDE, SIDE, 2), 0.1, np.float32)}
    assert not jitter(flows, STILL, WEIGHTS).any()
