"""Noise and compression go from a photo's faces; what is sharp and clean is not touched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.faces.align import Matrix, compose, invert, shift, whole_transform
from quantface_core.faces.clean import clean_face, remove_artifacts
from quantface_core.faces.paste import face_mask
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels

_CROP = 256


def sized(path: Path, side: int) -> Pixels:
    pixels = read_photo(path).pixels
    smooth = cv2.INTER_AREA if side < len(pixels) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=smooth), np.uint8)


def noisy(photo: Pixels, sigma: float, gray: bool = False) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, (*photo.shape[:2], 1 if gray else 3))
    return np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)


def compressed(photo: Pixels, quality: int) -> Pixels:
    encoded = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1])


def place_of(photo: Pixels) -> Matrix:
    """From a crop to a photo that is that crop at another size."""
    return invert(whole_transform(*photo.shape[1::-1], _CROP))


def cleaned(photo: Pixels, share: float = 1.0) -> Pixels:
    """A photo that is a face's crop, with a share of its noise removed; the same array if it has none."""
    mask, place = face_mask(_CROP), place_of(photo)
    face = clean_face(photo, mask, place)
    return remove_artifacts(photo, [(face, np.float32(share) * mask, place)]) if face else photo


def error(photo: Pixels, truth: Pixels) -> float:
    """Mean squared error within the face."""
    inside = cv2.resize(face_mask(_CROP), photo.shape[1::-1]) > 0.9
    return float(np.square(photo.astype(np.float32) - truth)[inside].mean())


@pytest.mark.parametrize("side", [64, 100, 160, 256, 512])
def test_a_clean_face_is_left(test_faces: list[Path], side: int) -> None:
    for path in test_faces[:4]:
        photo = sized(path, side)
        assert clean_face(photo, face_mask(_CROP), place_of(photo)) is None


@pytest.mark.parametrize("quality", [20, 40])
@pytest.mark.parametrize("side", [100, 160, 240, 400])
def test_compression_goes(test_faces: list[Path], side: int, quality: int) -> None:
    for path in test_faces[:2]:
        face = sized(path, side)
        bad = compressed(face, quality)
        found = clean_face(bad, face_mask(_CROP), place_of(bad))
        assert found is not None
        assert found.removed == "compression"
        assert error(cleaned(bad), face) < 0.95 * error(bad, face)


def test_a_small_face_s_compression_is_measured_around_it(test_faces: list[Path]) -> None:
    """Too few blocks lie within it."""
    photo = compressed(sized(test_faces[0], 256), 30)
    place = compose(shift(100, 100), invert(whole_transform(30, 30, _CROP)))
    found = clean_face(photo, face_mask(_CROP), place)
    assert found is not None
    assert found.removed == "compression"
    alone = photo[100:130, 100:130]
    assert clean_face(alone, face_mask(_CROP), place_of(alone)) is None


def test_a_film_s_compression_is_left_and_its_noise_goes(test_faces: list[Path]) -> None:
    face = sized(test_faces[0], 200)
    for bad, removed in ((compressed(face, 30), None), (noisy(face, 15), "noise")):
        found = clean_face(bad, face_mask(_CROP), place_of(bad), film=True)
        assert (found and found.removed) == removed


def test_good_compression_is_left(test_faces: list[Path]) -> None:
    for path in test_faces[:4]:
        photo = compressed(sized(path, 240), 95)
        assert clean_face(photo, face_mask(_CROP), place_of(photo)) is None


@pytest.mark.parametrize(("side", "left"), [(48, (1, 0.6)), (64, (0.85, 0.4)), (100, (0.7, 0.25)), (400, (0.6, 0.2))])
@pytest.mark.parametrize("gray", [False, True])
def test_noise_goes(test_faces: list[Path], side: int, left: tuple[float, float], gray: bool) -> None:
    for path in test_faces[:2]:
        face = sized(path, side)
        for sigma, share in zip((8, 20), left, strict=True):  # of the squared error
            bad = noisy(face, sigma, gray)
            assert error(cleaned(bad), face) <= share * error(bad, face)


@pytest.mark.parametrize("side", [96, 250])
def test_fine_grain_is_left(test_faces: list[Path], side: int) -> None:
    bad = noisy(sized(test_faces[0], side), 2.5)
    assert clean_face(bad, face_mask(_CROP), place_of(bad)) is None


def test_texture_of_the_face_alone_is_left(test_faces: list[Path]) -> None:
    """Noise is all over a photo; sharpened pores, stone and a colour map's edges are not."""
    outside = face_mask(_CROP)[..., None] == 0
    for path in test_faces[:2]:
        face = sized(path, _CROP)
        photo = np.where(outside, face, noisy(face, 12))
        assert clean_face(photo, face_mask(_CROP), place_of(photo)) is None


@pytest.mark.parametrize("level", [0, 10, 128, 250, 255])
def test_noise_goes_where_it_cannot_show_around_the_face(test_faces: list[Path], level: int) -> None:
    face = sized(test_faces[0], _CROP)
    drawn = np.where(face_mask(_CROP)[..., None] == 0, np.uint8(level), noisy(face, 12))
    found = clean_face(drawn, face_mask(_CROP), place_of(drawn))
    assert found is not None
    assert found.removed == "noise"


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_repeated_pixels_go(test_faces: list[Path], factor: int) -> None:
    for path in test_faces[:2]:
        face = sized(path, 240)
        bad = np.kron(sized(path, 240 // factor), np.ones((factor, factor, 1), np.uint8))
        found = clean_face(bad, face_mask(_CROP), place_of(bad))
        assert found is not None
        assert found.removed == "blocks"
        assert error(cleaned(bad), face) < 0.8 * error(bad, face)


def test_a_share_of_the_noise_is_removed(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 160), 15)
    whole, half = (cleaned(photo, share).astype(float) - photo for share in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 2, atol=0.51)


def test_what_the_mask_leaves_out_is_left_to_the_bit(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], _CROP), 15)
    outside = face_mask(_CROP) == 0
    assert np.array_equal(cleaned(photo)[outside], photo[outside])
    assert not np.array_equal(cleaned(photo), photo)


def test_16_bits_are_denoised_as_8_are(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 160), 15)
    eight, sixteen = cleaned(photo), cleaned(photo.astype(np.uint16) * 257)
    assert sixteen.dtype == np.uint16
    assert np.abs(eight - sixteen / 257).max() < 1


def test_a_gray_face_stays_gray(test_faces: list[Path]) -> None:
    face = cv2.cvtColor(sized(test_faces[0], 160), cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    bad = noisy(face, 15, gray=True)
    clean = cleaned(bad)
    assert (clean == clean[..., :1]).all()
    assert error(clean, face) < 0.4 * error(bad, face)


@pytest.mark.parametrize("light", [(0.6, 0.2, 1.1), (0.1, 0.15, 1.0), (1.0, 0.05, 0.08), (0.2, 1.0, 0.2)])
def test_in_coloured_light_detail_stays_and_noise_goes(test_faces: list[Path], light: tuple[float, ...]) -> None:
    for path in test_faces[:2]:
        face = np.clip(np.rint(sized(path, 160) * np.array(light)), 0, 255).astype(np.uint8)
        assert error(cleaned(face), face) < 1
        bad = noisy(face, 10)
        assert error(cleaned(bad), face) < 0.4 * error(bad, face)


def test_a_dithered_face_keeps_its_brightness(test_faces: list[Path]) -> None:
    for path in test_faces[:2]:
        gray = Image.fromarray(sized(path, 256)).convert("L")
        dithered, face = (np.asarray(image.convert("RGB")) for image in (gray.convert("1"), gray))
        shift = cv2.blur(cleaned(dithered).astype(np.float32) - dithered, (49, 49))[64:192, 64:192]
        assert np.sqrt(np.square(shift).mean()) < 8
        assert error(cleaned(dithered), face) < 0.05 * error(dithered, face)


def test_a_face_at_the_border_is_denoised_too(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 200), 15)
    place = place_of(photo)
    beyond = compose(shift(0, -60), place)  # the photo without its uppermost 60 rows
    whole, part = (clean_face(x, face_mask(_CROP), p) for x, p in ((photo, place), (photo[60:], beyond)))
    assert whole is not None
    assert part is not None
    inner = np.s_[40:120, 20:180]
    assert np.abs(whole.pixels[60:][inner].astype(int) - part.pixels[inner]).mean() < 1


def test_a_face_of_several_tiles_has_no_seams(test_faces: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    photo = noisy(sized(test_faces[0], 300), 15)
    place = compose(shift(21, 13), invert(whole_transform(260, 260, _CROP)))
    whole = clean_face(photo, face_mask(_CROP), place)
    monkeypatch.setattr("quantface_core.faces.area._TILE", 124)
    tiled = clean_face(photo, face_mask(_CROP), place)
    assert whole is not None
    assert tiled is not None
    assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() <= 2


def test_the_crop_of_a_clean_face_is_the_photo_s(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 200), 15)
    place = place_of(photo)
    face = clean_face(photo, face_mask(_CROP), place)
    assert face is not None
    crop = face.crop(invert(place), _CROP)
    assert crop.shape == (_CROP, _CROP, 3)
    wanted = cv2.resize(face.pixels, (_CROP, _CROP), interpolation=cv2.INTER_CUBIC) / 255
    assert np.abs(crop - wanted).mean() < 0.005
