"""Faces in the coloured light of a stage are seen in gray, and their changes get the light's colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantface_core.faces.color import luma
from quantface_core.faces.light import colored_light, coloring
from quantface_core.faces.paste import face_mask
from quantface_core.io.photos import read_photo

LIGHTS = {"red": (1.0, 0.05, 0.08), "blue": (0.1, 0.15, 1.0), "violet": (0.6, 0.2, 1.1), "green": (0.2, 1.0, 0.2)}


def lit(face: np.ndarray, light: tuple[float, ...]) -> np.ndarray:
    """A face [S, S, 3] uint8 in a light, in 0 to 1, in steps of a 255th."""
    return np.rint(np.clip(face * np.array(light), 0, 255)).astype(np.float32) / 255


@pytest.fixture(scope="module")
def faces(test_faces: list[Path]) -> list[np.ndarray]:
    return [read_photo(path).pixels for path in test_faces]


@pytest.mark.parametrize("light", [(1, 1, 1), (0.1, 0.1, 0.1), (1.0, 0.8, 0.6), (0.8, 0.9, 1.0), (0, 0, 0)])
def test_in_white_light_of_any_warmth_and_in_the_dark_colours_are_seen(
    faces: list[np.ndarray], light: tuple[float, ...]
) -> None:
    assert not any(colored_light(lit(face, light)) for face in faces)


def test_a_black_and_white_face_has_no_coloured_light(faces: list[np.ndarray]) -> None:
    assert not colored_light(luma(lit(faces[0], (1, 1, 1)))[..., None].repeat(3, 2))


@pytest.mark.parametrize("light", LIGHTS)
def test_in_coloured_light_a_face_has_the_contrast_that_it_has_in_white(faces: list[np.ndarray], light: str) -> None:
    mask = face_mask(len(faces[0])) > 0.5
    for face in faces[:12]:
        crop, gray = lit(face, LIGHTS[light]), luma(lit(face, (1, 1, 1)))
        found = colored_light(crop)
        assert found is not None
        assert found.share > 0.7
        seen = luma(found.whitened(crop))
        assert seen[mask].std() > 0.6 * gray[mask].std()
        assert np.corrcoef(seen[mask], gray[mask])[0, 1] > 0.8


@pytest.mark.parametrize("paint", [(0.35, 0.65, 1.0), (0.4, 1.0, 0.8), (0.8, 0.35, 1.0)])
def test_a_face_that_lacks_red_or_green_is_seen_in_gray(faces: list[np.ndarray], paint: tuple[float, ...]) -> None:
    """No white light does; of blue it may lack as much."""
    for face in faces[:12]:
        found = colored_light(lit(face, paint))
        assert found is not None
        assert found.share > 0.7
        assert colored_light(lit(face, (1.0, 0.75, 0.4))) is None


def test_a_change_is_seen_as_it_was_drawn(faces: list[np.ndarray]) -> None:
    crop = lit(faces[0], LIGHTS["red"])
    light = colored_light(crop)
    assert light is not None
    assert light.share == 1
    drawn = np.zeros_like(crop)
    drawn[64:128, 64:128] = 0.1, 0.0, -0.05
    made = light.colored(drawn)
    assert not made[:64].any()
    assert np.abs(made[64:128, 64:128, 1:]).max() < 0.2 * np.abs(made[64:128, 64:128, 0]).max()
    inner = np.s_[64:128, 64:128]
    seen = light.whitened(crop + made) - light.whitened(crop)
    assert np.abs(seen - luma(drawn)[..., None])[inner].mean() < 0.002


def test_where_another_light_falls_a_change_stays_small(faces: list[np.ndarray]) -> None:
    crop = lit(faces[0], LIGHTS["red"])
    crop[:, :100] = crop[:, :100, ::-1]  # the light of another lamp
    light = colored_light(crop)
    if light is not None:
        assert np.abs(light.colored(np.full_like(crop, 0.1))).max() <= 0.15 + 1e-6


@pytest.mark.parametrize("light", [(0.7, 0.03, 0.03), (0.03, 0.03, 0.7), (0.03, 0.5, 0.03), (0.7, 0.03, 0.7)])
def test_the_share_is_continuous_in_the_colour_of_the_light(light: tuple[float, ...]) -> None:
    skin, end = np.array([0.7, 0.5, 0.45], np.float32), np.array(light, np.float32)
    shares = [coloring(skin + np.float32(t) * (end - skin)) for t in np.linspace(0, 1, 200)]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert max(np.abs(np.diff(shares))) < 0.1
