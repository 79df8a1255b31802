"""Noise at the photo's own pixels: gone in restored faces, by as much as the strength says, from photos and films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from quantface_core.faces.align import FFHQ_TEMPLATE
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.canvas import enlarged
from quantface_core.stages.film import FilmRestorer
from quantface_core.stages.frames import DetectedFrame
from quantface_core.stages.restore import restore_aligned, restore_photo
from quantface_core.types import Face, Pixels
from tests.faces.test_clean import compressed
from tests.stages.psnr import psnr
from tests.stages.test_film import Still, noisy_film


def pair(path: Path, side: int, sigma: float = 15.0) -> tuple[Pixels, Pixels]:
    """A face [side, side, 3]: clean and noisy."""
    clean = np.asarray(cv2.resize(read_photo(path).pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return clean, np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("strength", ["auto", 1.0])
@pytest.mark.parametrize("side", [120, 256])
def test_a_face_no_larger_than_the_crop_loses_its_noise(
    test_faces: list[Path], mini: OneStepRestorer, side: int, strength: float | str
) -> None:
    for path in test_faces[:2]:
        clean, noisy = pair(path, side)
        result = restore_aligned(noisy, mini, RestoreOptions(strength=strength))  # type: ignore[arg-type]
        assert psnr(result.pixels, clean) > psnr(noisy, clean) + 3
        assert result.restored[0].removed_artifacts == "noise"


def test_half_the_strength_removes_half_of_the_noise(test_faces: list[Path], mini: OneStepRestorer) -> None:
    _, noisy = pair(test_faces[0], 256)
    none, half, whole = (
        restore_aligned(noisy, mini, RestoreOptions(strength=s)).pixels.astype(np.float32) for s in (0.0, 0.5, 1.0)
    )
    assert np.array_equal(none, noisy)
    assert np.abs(half - (none + whole) / 2).max() <= 1


class Same:
    """A restorer that changes nothing."""

    image_size = 128
    device = torch.device("cpu")

    def __call__(self, images: object, seeds: object = None) -> object:
        return images


@pytest.mark.parametrize("strength", ["auto", 1.0])
def test_as_much_noise_stays_as_the_grain_says(test_faces: list[Path], strength: float | str) -> None:
    _, noisy = pair(test_faces[0], 256)

    def restored(grain: float) -> tuple[np.ndarray, str]:
        options = RestoreOptions(strength=strength, grain=grain, color="none")  # type: ignore[arg-type]
        result = restore_aligned(noisy, Same(), options)  # type: ignore[arg-type]
        return result.pixels.astype(np.float32), result.restored[0].removed_artifacts

    (none, _), (half, _), (whole, removed) = map(restored, (0.0, 0.5, 1.0))
    assert np.array_equal(whole, noisy)
    assert removed == ""
    assert np.abs(half - (none + whole) / 2).max() <= 1
    assert np.abs(none - whole).mean() > 5


def test_a_film_s_faces_lose_it_too(test_faces: list[Path]) -> None:
    clean, noisy = pair(test_faces[0], 128)
    seen = [DetectedFrame(Still(noisy), [whole_face(128)], one.appearances[:1]) for one in noisy_film(4)]

    def restored(strength: float | str) -> np.ndarray:
        options = RestoreOptions(strength=strength, color="none")  # type: ignore[arg-type]
        return next(FilmRestorer(Same(), options, smoothing=0).restore(seen)).pixels.astype(float)  # type: ignore[arg-type]

    auto, whole, half = map(restored, ("auto", 1.0, 0.5))
    assert psnr(whole, clean) > psnr(noisy, clean) + 1.5
    assert np.array_equal(auto, whole)
    assert np.abs(half - (noisy + whole) / 2).max() <= 1


def test_a_film_s_faces_keep_their_compression(test_faces: list[Path]) -> None:
    """Most frames are coded as changes of others: what is measured would vary from frame to frame."""
    clean, _ = pair(test_faces[0], 128)
    frame = compressed(clean, 40)
    seen = [DetectedFrame(Still(frame), [whole_face(128)], one.appearances[:1]) for one in noisy_film(4)]
    options = RestoreOptions(strength=1.0, color="none")
    made = next(FilmRestorer(Same(), options, smoothing=0).restore(seen))  # type: ignore[arg-type]
    assert np.array_equal(made.pixels, frame)


def whole_face(side: int) -> Face:
    """A face whose crop is a whole image."""
    points = FFHQ_TEMPLATE * side - 0.5
    return Face((0.0, 0.0, float(side), float(side)), tuple((float(x), float(y)) for x, y in points), 0.95)


def test_as_a_film_s_face_fades_out_so_does_the_removal_of_its_noise(test_faces: list[Path]) -> None:
    _, noisy = pair(test_faces[0], 128)
    sure, doubtful = whole_face(128), replace(whole_face(128), score=0.3)
    seen = [
        DetectedFrame(Still(noisy), [sure if i < 6 else doubtful], one.appearances[:1])
        for i, one in enumerate(noisy_film(16))
    ]
    options = RestoreOptions(strength=1.0, color="none")
    frames = FilmRestorer(Same(), options, smoothing=0.1).restore(seen)  # type: ignore[arg-type]
    removed = [float(np.abs(frame.pixels.astype(float) - noisy).mean()) for frame in frames]
    assert removed[12] == pytest.approx(removed[0] * 9 / 16, rel=0.1)


def test_nothing_beyond_the_face_changes_where_it_is_enlarged(test_faces: list[Path]) -> None:
    _, noisy = pair(test_faces[0], 200)
    face = Face(
        (60.0, 60.0, 80.0, 80.0), tuple((60 + 0.4 * x, 60 + 0.4 * y) for x, y in whole_face(200).landmarks), 0.9
    )
    result = restore_photo(noisy, Same(), [face], RestoreOptions(strength=1.0, color="none", upscale=2))  # type: ignore[arg-type]
    assert result.restored[0].removed_artifacts == "noise"
    assert np.array_equal(result.pixels[result.mask == 0], enlarged(noisy, 2)[result.mask == 0])
    assert not np.array_equal(result.pixels, enlarged(noisy, 2))


def test_a_given_background_is_not_cleaned(test_faces: list[Path]) -> None:
    _, noisy = pair(test_faces[0], 200)
    result = restore_photo(
        noisy, Same(), [whole_face(200)], RestoreOptions(strength=1.0, color="none"), background=enlarged(noisy, 2)
    )  # type: ignore[arg-type]
    assert result.restored[0].removed_artifacts == ""
