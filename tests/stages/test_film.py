"""A film's frames in, restored frames out: steady, in order, whatever frame the work begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from quantface_core.errors import UsageError
from quantface_core.faces.appearance import appearance_descriptor
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.color import is_gray
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.stages.film import FilmRestorer, first_needed
from quantface_core.stages.frames import DetectedFrame, RestoredFrame
from quantface_core.stages.restore import restore_photo
from quantface_core.types import Face, Pixels
from tests.stages.flicker import Flicker
from tests.stages.toy_restorers import Red, Waxy

FULL = RestoreOptions(strength=1.0, color="none")


class Still:
    """A frame of an array."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.conversions = 0

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._pixels.shape[:2]
        return width, height

    def rgb(self) -> Pixels:
        self.conversions += 1
        return self._pixels


def noisy_film(count: int, faces: int = 1, noise: float = 3.0) -> list[DetectedFrame]:
    """A face that stands still under noise, and landmarks that tremble."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[0:100, 0:200]
    picture = 120 + 40 * np.sin(x / 6.0) + 30 * np.cos(y / 5.0)
    seen = []
    for _ in range(count):
        noisy = np.clip(picture[..., None] + draws.normal(0, noise, (100, 200, 3)), 0, 255).astype(np.uint8)
        found = [face_in_box((20.0 + 90 * i, 15.0, 48.0, 60.0)) for i in range(faces)]
        moved = [
            Face(f.box, tuple(map(tuple, (np.array(f.landmarks) + draws.normal(0, 0.4, (5, 2))).tolist())), 0.9)
            for f in found
        ]
        seen.append(DetectedFrame(Still(noisy), moved, [appearance_descriptor(noisy, face) for face in moved]))
    return seen


def _run(seen: Sequence[DetectedFrame], first: int = 0, smoothing: float = 2.0, **options: Any) -> list[RestoredFrame]:
    chosen = RestoreOptions(**{"strength": 1.0, "color": "none", **options})
    return list(FilmRestorer(Flicker(), chosen, smoothing).restore(seen, first))  # type: ignore[arg-type]


def _unrest(frames: Sequence[RestoredFrame]) -> float:
    """How much the middle of the face changes from frame to frame; its input stands still but for noise."""
    inside = np.stack([frame.pixels[30:60, 30:60].astype(float) for frame in frames])
    return float(np.sqrt(np.square(np.diff(inside, axis=0)).mean()))


def test_steadied_faces_flicker_at_most_half_as_much() -> None:
    seen = noisy_film(16)
    alone, steadied = (_unrest(_run(seen, smoothing=s)) for s in (0.0, 2.0))
    assert steadied < alone / 2


def test_a_face_that_is_not_restored_is_steadied_too() -> None:
    seen = noisy_film(12)
    alone, steadied = (_unrest(_run(seen, smoothing=s, strength=0.0)) for s in (0.0, 2.0))
    assert 0 < steadied < alone / 2


def test_frames_come_in_order_and_only_faces_change() -> None:
    frames = _run(noisy_film(11))
    assert [frame.index for frame in frames] == list(range(11))
    for frame in frames:
        outside = frame.mask == 0
        assert np.array_equal(frame.pixels[outside], frame.before[outside])
        assert not np.array_equal(frame.pixels, frame.before)


@pytest.fixture(scope="module")
def whole() -> list[RestoredFrame]:
    """Two faces, in one piece."""
    return _run(noisy_film(16, faces=2), smoothing=1.0, strength="auto")


@pytest.mark.parametrize("first", [12, 15])
def test_work_that_begins_later_gives_the_same_frames(whole: list[RestoredFrame], first: int) -> None:
    needed = first_needed(first, 1.0)
    assert 0 < needed <= first
    later = [
        DetectedFrame(None if i < needed else s.frame, s.faces, s.appearances)
        for i, s in enumerate(noisy_film(16, faces=2))
    ]
    rest = _run(later, first, smoothing=1.0, strength="auto")
    assert [frame.index for frame in rest] == list(range(first, 16))
    for a, b in zip(whole[first:], rest, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert a.faces == b.faces


class Tint(Flicker):
    """A restorer that paints."""

    def __call__(self, images: Tensor, seeds: object = None) -> Tensor:
        return images + torch.tensor([0.2, 0.0, -0.2]).view(3, 1, 1)


def test_a_colour_face_in_gray_surroundings_is_restored_in_colour() -> None:
    warm = np.array([1.1, 1.0, 0.9])

    def run(page: int) -> RestoredFrame:
        seen = []
        for one in noisy_film(6):
            pixels = np.full((page, page, 3), 90, np.uint8)
            pixels[:100, :200] = np.clip(one.frame.rgb() * warm, 0, 255)  # type: ignore[union-attr]
            seen.append(DetectedFrame(Still(pixels), one.faces, one.appearances))
        return list(FilmRestorer(Tint(), FULL).restore(seen))[3]  # type: ignore[arg-type]

    on_gray, alone = run(1000), run(200)
    assert is_gray(on_gray.before)
    assert not is_gray(alone.before)
    assert np.array_equal(on_gray.pixels[:100, :200], alone.pixels[:100, :200])


def test_a_black_and_white_film_stays_so_around_a_face_that_is_there_briefly() -> None:
    seen = []
    for i, one in enumerate(noisy_film(16)):
        gray = np.repeat(one.frame.rgb()[..., :1], 3, axis=2)  # type: ignore[union-attr]
        there = 5 <= i < 11
        seen.append(DetectedFrame(Still(gray), one.faces if there else [], one.appearances if there else []))

    frames = list(FilmRestorer(Tint(), FULL).restore(seen))  # type: ignore[arg-type]
    assert any(frame.mask.any() for frame in frames)
    for frame in frames:
        assert np.ptp(frame.pixels, axis=2).max() == 0


def test_few_frames_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def source() -> Iterator[DetectedFrame]:
        for number, seen in enumerate(noisy_film(36)):
            held.append(number)
            yield seen

    most = max(held[-1] - frame.index for frame in FilmRestorer(Flicker(), FULL).restore(source()))  # type: ignore[arg-type]
    assert most < 32


def test_a_cut_is_no_neighbour() -> None:
    first, second = noisy_film(8), noisy_film(8)
    other = [
        DetectedFrame(Still(255 - s.frame.rgb()), s.faces, s.appearances, cut=i == 0) for i, s in enumerate(second)
    ]  # type: ignore[union-attr]
    together = _run([*first, *other])
    apart = [*_run(first), *_run(other)]
    for a, b in zip(together, apart, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
    assert {face.track for frame in together[8:] for face in frame.faces} == {1}


def test_an_unsure_face_fades_and_does_not_blink() -> None:
    seen = noisy_film(36)
    scores = [0.9] * 16 + [0.5] * 20
    unsure = [
        DetectedFrame(s.frame, [Face(f.box, f.landmarks, score) for f in s.faces], s.appearances)
        for s, score in zip(seen, scores, strict=True)
    ]
    applied_strength = [
        frame.faces[0].applied_strength if frame.faces else 0.0 for frame in _run(unsure, smoothing=1.0)
    ]
    assert applied_strength[0] > 0.99
    assert applied_strength[-1] == 0
    assert max(np.abs(np.diff(applied_strength))) < 0.2


def test_tracks_are_chosen_by_number_and_by_size() -> None:
    seen = noisy_film(8, faces=2)
    assert {face.track for frame in _run(seen, faces=(1,)) for face in frame.faces} == {1}
    larger = [
        DetectedFrame(
            s.frame, [s.faces[0], Face((*s.faces[1].box[:2], 60.0, 75.0), s.faces[1].landmarks, 0.9)], s.appearances
        )
        for s in seen
    ]
    assert {face.track for frame in _run(larger, faces="largest") for face in frame.faces} == {1}


def test_pixels_that_are_not_square_and_larger_results() -> None:
    seen = [DetectedFrame(Still(s.frame.rgb()[:, ::2].copy()), s.faces, s.appearances) for s in noisy_film(6)]  # type: ignore[union-attr]
    wide = list(FilmRestorer(Flicker(), FULL, 2.0, aspect=2.0).restore(seen))  # type: ignore[arg-type]
    square = _run(noisy_film(6))
    assert wide[0].mask.shape == (100, 100)
    np.testing.assert_allclose(wide[3].mask, square[3].mask[:, ::2], atol=0.2)
    large = _run(noisy_film(6), upscale=2)[3]
    assert large.pixels.shape == (200, 400, 3)
    np.testing.assert_allclose(large.mask[::2, ::2], square[3].mask, atol=0.1)


def test_blocks_are_removed_as_from_a_photo() -> None:
    cells = np.random.default_rng(0).integers(60, 200, (40, 40, 3), dtype=np.uint8)
    pixels = cv2.resize(cells, (640, 640), interpolation=cv2.INTER_NEAREST)
    face = face_in_box((150.0, 120.0, 300.0, 400.0))
    photo = restore_photo(pixels, Waxy(), [face], RestoreOptions())
    assert photo.restored[0].removed_artifacts == "blocks"
    seen = [DetectedFrame(Still(pixels), [face], [appearance_descriptor(pixels, face)])]
    (frame,) = FilmRestorer(Waxy(), RestoreOptions(), 0.0).restore(seen)
    assert not np.array_equal(frame.pixels, pixels)
    np.testing.assert_allclose(frame.pixels.astype(int), photo.pixels.astype(int), atol=1)


@pytest.mark.parametrize(
    ("gain", "offset"), [(0.2, 110), ((0.9, 0.8, 0.6), (20, 15, 5)), (1.0, 0)], ids=["faded", "sepia", "gray"]
)
def test_faded_and_toned_faces_are_restored_as_in_a_photo(gain: Any, offset: Any) -> None:
    gray = cv2.GaussianBlur(np.random.default_rng(0).normal(120, 900, (200, 200)).astype(np.float32), (0, 0), 5)
    pixels = np.clip(np.rint(gray[..., None] * gain + offset), 0, 255).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (200, 200, 3)).copy()
    face = face_in_box((50.0, 40.0, 96.0, 120.0))
    photo = restore_photo(pixels, Red(), [face], FULL)
    seen = [DetectedFrame(Still(pixels), [face], [appearance_descriptor(pixels, face)])]
    (frame,) = FilmRestorer(Red(), FULL, 0.0).restore(seen)
    assert not np.array_equal(frame.pixels, pixels)
    np.testing.assert_allclose(frame.pixels.astype(int), photo.pixels.astype(int), atol=1)


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_small_faces_are_restored_where_they_are_not_sharp_as_in_a_photo(
    photos: Path, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.stages.blending.blend_share", lambda before, _: np.ones_like(before[..., 0]))
    pixels = cv2.resize(read_photo(photos / "nasa_astronaut.png").pixels, (192, 192), interpolation=cv2.INTER_AREA)
    if sigma:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)
    face, options = face_in_box((68.0, 20.0, 32.0, 44.0)), RestoreOptions(color="none")
    photo = restore_photo(pixels, Red(), [face], options)
    seen = [DetectedFrame(Still(pixels), [face], [appearance_descriptor(pixels, face)])]
    (frame,) = FilmRestorer(Red(), options, 0.0).restore(seen)
    assert np.array_equal(frame.pixels, pixels) == (not sigma)
    np.testing.assert_allclose(frame.pixels.astype(int), photo.pixels.astype(int), atol=1)


def test_frames_are_converted_no_more_often_than_they_are_read() -> None:
    seen = noisy_film(8)
    _run(seen)
    assert {one.frame.conversions for one in seen} == {3}  # type: ignore[union-attr]  # to steady, restore, compose


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="smoothing"):
        FilmRestorer(Flicker(), FULL, -1.0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="strength"):
        FilmRestorer(Flicker(), RestoreOptions(strength=2.0))  # type: ignore[arg-type]


class Finer(Waxy):
    """Waxy, of a resolution that faces exceed."""

    image_size = 24


def test_noise_finer_than_the_crop_goes_in_proportion_to_the_strength() -> None:
    seen = noisy_film(2, noise=20.0)
    left = []
    for strength in (0.0, 0.5, 1.0):
        options = RestoreOptions(strength=strength, color="none")
        frame = next(iter(FilmRestorer(Finer(), options, smoothing=0).restore(seen)))  # type: ignore[arg-type]
        middle = frame.pixels[30:60, 30:60].astype(np.float32)
        left.append(float((middle - cv2.GaussianBlur(middle, (0, 0), 3.0)).std()))
    assert left[2] < 0.6 * left[0]
    assert left[1] == pytest.approx((left[0] + left[2]) / 2, rel=0.15)
