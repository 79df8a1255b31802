"""Detail finer than the crop: kept where it is detail, dropped where it is noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces import fine_detail as module
from quantface_core.faces.align import Matrix, extract, invert, whole_transform
from quantface_core.faces.area import Area
from quantface_core.faces.fine_detail import FineDetail, removed_detail
from quantface_core.faces.paste import face_mask
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels

_CROP = 128
_FACES = range(4)


def measured(photo: Pixels) -> tuple[FineDetail, Matrix]:
    to_photo = whole_transform(_CROP, _CROP, len(photo))
    crop = extract(photo, invert(to_photo), _CROP)
    return module.measure_damage(
        FineDetail(crop, np.ones((_CROP, _CROP), np.float32)), photo, face_mask(_CROP), to_photo
    ), to_photo


def removed(photo: Pixels, fine_detail: FineDetail, place: Matrix) -> np.ndarray:
    return removed_detail(Area(0, 0, photo.shape[1], photo.shape[0]), photo, fine_detail, place)


def grainy(photo: Pixels, sigma: float, size: float = 0.0) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 1, photo.shape)
    if size:
        noise = cv2.GaussianBlur(noise, (0, 0), size)
    return np.clip(np.rint(photo + sigma * noise / noise.std()), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def portraits(train_faces: Path) -> list[Pixels]:
    """Portraits of 512 pixels."""
    return [read_photo(path).pixels for path in sorted((train_faces.parent / "large").glob("*.jpg"))[:6]]


@pytest.mark.parametrize("index", _FACES)
def test_a_sharp_portrait_has_no_noise_and_loses_nothing(portraits: list[Pixels], index: int) -> None:
    fine_detail, place = measured(portraits[index])
    assert fine_detail.noise == 0
    assert not removed(portraits[index], fine_detail, place).any()


@pytest.mark.parametrize("index", _FACES)
@pytest.mark.parametrize(("sigma", "size"), [(12, 0), (30, 0), (15, 0.8)])
def test_noise_is_measured_and_goes(portraits: list[Pixels], index: int, sigma: float, size: float) -> None:
    clean, noisy = portraits[index], grainy(portraits[index], sigma, size)
    fine_detail, place = measured(noisy)
    assert fine_detail.noise * 255 == pytest.approx(sigma, rel=0.5)
    kept = noisy / 255 - removed(noisy, fine_detail, place)
    before, after = (float(np.square(x - clean / 255).mean()) for x in (noisy / 255, kept))
    assert after < 0.5 * before


def test_edges_stand_out_of_noise_and_stay() -> None:
    photo = np.full((512, 512, 3), 60, np.uint8)
    photo[:, 200:204] = 220  # a hair, finer than the crop
    noisy = grainy(photo, 12)
    fine_detail, place = measured(noisy)
    kept = noisy - 255 * removed(noisy, fine_detail, place)
    assert kept[100:400, 201:203].mean() > 190
    assert kept[100:400, 300:400].std() < 0.5 * noisy[100:400, 300:400].std()


def test_a_photo_no_finer_than_its_crop_is_not_measured(portraits: list[Pixels]) -> None:
    small = cv2.resize(grainy(portraits[0], 30), (_CROP, _CROP), interpolation=cv2.INTER_AREA)
    fine_detail, _ = measured(small)
    assert fine_detail.noise == 0


def test_16_bits_are_measured_alike(portraits: list[Pixels]) -> None:
    noisy = grainy(portraits[0], 12)
    assert measured(noisy.astype(np.uint16) * 257)[0].noise == pytest.approx(measured(noisy)[0].noise, rel=1e-3)


@pytest.mark.parametrize("index", _FACES)
@pytest.mark.parametrize("side", [64, 100, 128])
def test_of_repeated_pixels_nothing_stays(portraits: list[Pixels], index: int, side: int) -> None:
    clean = portraits[index]
    small = cv2.resize(clean, (side, side), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(small, clean.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    fine_detail, place = measured(blocks)
    assert fine_detail.damage == "blocks"
    kept = np.rint(blocks - 255 * removed(blocks, fine_detail, place)).clip(0, 255)
    before, after = (float(np.square(x - clean.astype(float)).mean()) for x in (blocks, kept))
    assert after < before


def test_repeated_pixels_finer_than_the_crop_are_detail(portraits: list[Pixels]) -> None:
    small = cv2.resize(portraits[0], (256, 256), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(small, (512, 512), interpolation=cv2.INTER_NEAREST)
    assert measured(blocks)[0].damage == ""


def test_an_area_sees_what_lies_beside_it() -> None:
    """Noise that begins where an area ends counts in it as in the whole."""
    photo = np.full((256, 256, 3), 120, np.uint8)
    photo[:, 128:] = grainy(photo[:, 128:], 12)
    to_photo = whole_transform(64, 64, 256)
    crop = extract(photo, invert(to_photo), 64)
    fine_detail = FineDetail(crop, np.ones((64, 64), np.float32), noise=8 / 255)
    rim = (slice(None), slice(126, 130))
    whole, part = (removed_detail(Area(0, 0, right, 256), photo, fine_detail, to_photo) for right in (256, 130))
    np.testing.assert_allclose(part[rim], whole[rim], atol=1e-4)
    assert np.abs(whole[rim]).max() > 0.01
