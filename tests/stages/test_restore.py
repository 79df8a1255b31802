"""What restoring changes in a photo, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.degrade import degrade
from quantface_core.errors import ImageError
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.color import is_gray
from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.restore import restore_aligned, restore_photo
from quantface_core.types import Face, Restoration
from tests.stages.psnr import psnr
from tests.stages.toy_restorers import Red

FULL = RestoreOptions(strength=1)  # these portraits are sharp: left alone otherwise


@pytest.fixture(scope="module")
def faces(detector: FaceDetector, astronaut: np.ndarray) -> tuple[Face, ...]:
    return detector(astronaut)


@pytest.fixture(scope="module")
def restored(astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...]) -> Restoration:
    return restore_photo(astronaut, mini, faces, FULL)


def test_only_the_face_changes(astronaut: np.ndarray, restored: Restoration) -> None:
    changed = np.any(restored.pixels != astronaut, axis=2)
    assert changed.any()
    assert not changed[restored.mask == 0].any()
    left, top, width, height = restored.faces[0].box
    rows, columns = np.nonzero(changed)
    assert left - width < columns.min()
    assert columns.max() < left + 2 * width
    assert top - height < rows.min()
    assert rows.max() < top + 2 * height


def test_same_input_same_bytes(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], restored: Restoration
) -> None:
    again = restore_photo(astronaut, mini, faces, FULL)
    assert np.array_equal(again.pixels, restored.pixels)


def test_a_degraded_face_comes_closer_to_the_truth(test_faces: list[Path], mini: OneStepRestorer) -> None:
    gains = []
    for seed, path in enumerate(test_faces[:4]):
        clean = read_photo(path).pixels
        bad = degrade(clean, seed)
        gains.append(psnr(restore_aligned(bad, mini).pixels, clean) - psnr(bad, clean))
    assert np.mean(gains) > 0.7
    assert min(gains) > 0


def test_no_seam_no_colour_shift(astronaut: np.ndarray, restored: Restoration) -> None:
    """Along the mask's rim the photo stays itself, and the face keeps its mean colour."""
    change = restored.pixels.astype(float) - astronaut
    rim = (restored.mask > 0) & (restored.mask < 0.15)
    assert np.abs(change[rim]).mean() < 1.5
    assert np.abs(change[restored.mask > 0.9].mean(0)).max() < 4


@pytest.mark.parametrize("color", [(1.0, 1.0, 1.0), (1.0, 0.8, 0.6)], ids=["gray", "sepia"])
def test_at_strength_0_a_toned_photo_stays_bit_for_bit(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], color: tuple[float, ...]
) -> None:
    photo = np.rint(astronaut.mean(2, keepdims=True) * color).astype(np.uint8)
    result = restore_photo(photo, mini, faces, RestoreOptions(strength=0.0))
    assert np.array_equal(result.pixels, photo)
    assert (result.restored[0].applied_strength, result.restored[0].removed_artifacts) == (0, "")


def test_strength_goes_from_nothing_to_all(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], restored: Restoration
) -> None:
    none, faint, half = (restore_photo(astronaut, mini, faces, RestoreOptions(strength=s)) for s in (0, 0.05, 0.5))
    full = restored
    assert np.array_equal(none.pixels, astronaut)
    applied = [result.restored[0].applied_strength for result in (none, faint, half, full)]
    assert applied == pytest.approx([0, 0.05, 0.5, 1])  # a number applies as much, however little
    middle = (astronaut.astype(float) + full.pixels) / 2
    in_range = (full.pixels > 0) & (full.pixels < 255)  # clipped pixels have no middle
    assert np.abs(half.pixels - middle)[in_range].max() <= 1.01


def test_a_colour_face_on_a_white_page_is_restored_in_colour(astronaut: np.ndarray, faces: tuple[Face, ...]) -> None:
    photo, page = np.full_like(astronaut, 255), np.full((3508, 2480, 3), 255, np.uint8)
    photo[30:220, 140:310] = astronaut[30:220, 140:310]
    page[: len(photo), : photo.shape[1]] = photo
    assert is_gray(page)
    assert not is_gray(photo)
    options = RestoreOptions(strength=1, color="none")
    gray = np.repeat(astronaut[..., 1:2], 3, axis=2)
    coloured = restore_photo(page, Red(), faces, options).pixels[: len(photo), : photo.shape[1]]
    assert np.array_equal(coloured, restore_photo(photo, Red(), faces, options).pixels)
    assert np.ptp(coloured[100, 220].astype(int)) > 100
    assert np.ptp(restore_photo(gray, Red(), faces, options).pixels.astype(int), axis=2).max() <= 1


def test_upscaling_enlarges_photo_and_mask(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], restored: Restoration
) -> None:
    large = restore_photo(astronaut, mini, faces, RestoreOptions(upscale=2, strength=1))
    assert large.pixels.shape == (1024, 1024, 3)
    assert large.mask.shape == (1024, 1024)
    shrunk = large.pixels.reshape(512, 2, 512, 2, 3).mean((1, 3))
    assert psnr(shrunk, restored.pixels) > 34


def test_16_bit_photos_keep_their_depth(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], restored: Restoration
) -> None:
    deep = restore_photo(astronaut.astype(np.uint16) * 257, mini, faces, FULL)
    assert deep.pixels.dtype == np.uint16
    assert np.abs(deep.pixels / 257 - restored.pixels).max() < 1.01


@pytest.fixture(scope="module")
def group(photos: Path, detector: FaceDetector) -> tuple[np.ndarray, tuple[Face, ...]]:
    photo = read_photo(photos / "solvay_1927_group.jpg").pixels
    return photo, detector(photo)


def test_a_black_and_white_photo_stays_so(group: tuple[np.ndarray, tuple[Face, ...]]) -> None:
    photo, faces = group
    result = restore_photo(photo, Red(), faces, RestoreOptions(faces=(0, 9, 28), strength=1))
    assert len(result.restored) == 3
    assert np.ptp(result.pixels, axis=2).max() <= 1
    assert not np.array_equal(result.pixels, photo)


def test_faces_at_the_border_and_beyond(astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...]) -> None:
    cut = np.ascontiguousarray(astronaut[110:, :215])  # through eyes and nose
    moved = replace(
        faces[0],
        box=(faces[0].box[0], faces[0].box[1] - 110, *faces[0].box[2:]),
        landmarks=tuple((x, y - 110) for x, y in faces[0].landmarks),
    )
    result = restore_photo(cut, mini, [moved])
    assert result.pixels.shape == cut.shape
    assert result.mask.max() == 1


def test_no_faces_no_change(astronaut: np.ndarray, mini: OneStepRestorer) -> None:
    result = restore_photo(astronaut, mini, [])
    assert np.array_equal(result.pixels, astronaut)
    assert result.restored == ()
    assert result.mask.max() == 0


def test_each_face_is_as_if_it_were_the_only_one(
    tiny: OneStepRestorer, group: tuple[np.ndarray, tuple[Face, ...]]
) -> None:
    photo, faces = group
    both, *alone = (
        restore_photo(photo, tiny, faces, RestoreOptions(faces=chosen, strength=1)) for chosen in ((0, 28), (0,), (28,))
    )
    for one in alone:
        inside = one.mask > 0
        assert (one.pixels[inside] != photo[inside]).any()
        assert np.abs(both.pixels[inside].astype(int) - one.pixels[inside]).max() <= 1


def test_batches_do_not_change_the_picture(tiny: OneStepRestorer, group: tuple[np.ndarray, tuple[Face, ...]]) -> None:
    photo, found = group
    calls = []
    results = [
        restore_photo(
            photo, tiny, found[:5], RestoreOptions(batch_size=n, seed=3, strength=1), lambda d, t: calls.append((d, t))
        )
        for n in (1, 3)
    ]
    assert (results[0].pixels != photo).any()
    assert np.abs(results[0].pixels.astype(int) - results[1].pixels).max() <= 1
    assert calls == [(i, 5) for i in range(6)] + [(0, 5), (3, 5), (5, 5)]


def test_cancelling_stops_between_batches(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...]
) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    before = astronaut.copy()
    with pytest.raises(Cancelled):
        restore_photo(astronaut, mini, faces, progress=cancel)
    assert np.array_equal(astronaut, before)


def test_aligned_restores_everything_at_any_size(mini: OneStepRestorer, test_faces: list[Path]) -> None:
    face = read_photo(test_faces[0]).pixels
    small = restore_aligned(np.ascontiguousarray(face[::2, ::2]), mini, RestoreOptions(upscale=2))
    assert small.pixels.shape == (256, 256, 3)
    assert small.mask.min() == restore_aligned(np.ascontiguousarray(face[:100, :100]), mini).mask.min() == 1
    assert [face.position for face in small.restored] == [0]
    with pytest.raises(ImageError, match="an aligned face is square"):
        restore_aligned(np.ascontiguousarray(face[:128]), mini)


def test_without_its_crops_the_result_is_the_same(
    astronaut: np.ndarray, restored: Restoration, mini: OneStepRestorer, faces: tuple[Face, ...]
) -> None:
    plain = restore_photo(astronaut, mini, faces, FULL, keep_crops=False)
    assert np.array_equal(plain.pixels, restored.pixels)
    assert [face.applied_strength for face in plain.restored] == [face.applied_strength for face in restored.restored]
    assert all(face.crop.shape == face.restored_crop.shape == (0, 0, 3) for face in plain.restored)
    assert all(face.crop.shape == (mini.image_size, mini.image_size, 3) for face in restored.restored)


def test_a_toned_print_keeps_its_tone(astronaut: np.ndarray, faces: tuple[Face, ...]) -> None:
    """Each channel follows from the luma, as in sepia, whatever colours the restorer gives."""
    gray = astronaut[..., 1:2].astype(np.float32)
    sepia = np.rint(gray * (0.9, 0.8, 0.6) + (25, 18, 8)).clip(0, 255).astype(np.uint8)
    after = restore_photo(sepia, Red(), faces, RestoreOptions(strength=1, color="none")).pixels.astype(float)
    assert np.abs(after - sepia).max() > 20
    inside = (after > 30).all(2) & (after < 225).all(2)
    level = (after[..., 1] - 18) / 0.8
    expected = np.stack([level * 0.9 + 25, level * 0.6 + 8], -1)
    assert np.abs(after[..., [0, 2]] - expected)[inside].max() < 4


def test_a_faded_face_is_restored_at_its_own_contrast(test_faces: list[Path], mini: OneStepRestorer) -> None:
    """A restorer draws eyes and teeth at an ordinary portrait's contrast: black lines in a faded one."""
    gains = []
    for seed, path in enumerate(test_faces[:2]):
        clean = np.rint(110 + 0.3 * read_photo(path).pixels.astype(np.float32)).astype(np.uint8)
        bad = degrade(clean, seed)
        made = restore_aligned(bad, mini, FULL).pixels
        gains.append(psnr(made, clean) - psnr(bad, clean))
    assert min(gains) > 0.3


@pytest.mark.parametrize("enlarged", [False, True])
def test_a_small_sharp_face_is_restored_on_a_background(
    photos: Path, enlarged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own pixels, which show all of it, are not those that remain."""
    monkeypatch.setattr("quantface_core.stages.blending.blend_share", lambda before, _: np.ones_like(before[..., 0]))
    photo = cv2.resize(read_photo(photos / "nasa_astronaut.png").pixels, (192, 192), interpolation=cv2.INTER_AREA)
    background = cv2.resize(photo, (384, 384), interpolation=cv2.INTER_CUBIC) if enlarged else None
    face, options = face_in_box((68.0, 20.0, 32.0, 44.0)), RestoreOptions(color="none")
    result = restore_photo(photo, Red(), [face], options, background=background)
    assert (result.restored[0].applied_strength > 0.9) == enlarged
