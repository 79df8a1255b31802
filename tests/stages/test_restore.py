from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from quantface_core.degrade import degrade
from quantface_core.errors import ImageError, QuantFaceError, UsageError
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.restore import (
    default_batch_size,
    describe_change,
    is_gray,
    restore_aligned,
    restore_crops,
    restore_photo,
)
from quantface_core.types import Face, Restoration, RestoreOptions

FULL = RestoreOptions(strength=1)  # these portraits are sharp: left alone otherwise


@pytest.fixture(scope="module")
def faces(detector: FaceDetector, astronaut: np.ndarray) -> tuple[Face, ...]:
    return detector(astronaut)


@pytest.fixture(scope="module")
def restored(astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...]) -> Restoration:
    return restore_photo(astronaut, mini, faces, FULL)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


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
    for seed, path in enumerate(test_faces[:8]):
        clean = read_photo(path).pixels
        bad = degrade(clean, seed)
        gains.append(psnr(restore_aligned(bad, mini).pixels, clean) - psnr(bad, clean))
    assert np.mean(gains) > 0.7
    assert sum(gain > 0 for gain in gains) >= 7


def test_no_seam_no_colour_shift(astronaut: np.ndarray, restored: Restoration) -> None:
    """Along the mask's rim the photo stays itself, and the face keeps its mean colour."""
    change = restored.pixels.astype(float) - astronaut
    rim = (restored.mask > 0) & (restored.mask < 0.15)
    assert np.abs(change[rim]).mean() < 1.5
    assert np.abs(change[restored.mask > 0.9].mean(0)).max() < 4


def test_strength_goes_from_nothing_to_all(
    astronaut: np.ndarray, mini: OneStepRestorer, faces: tuple[Face, ...], restored: Restoration
) -> None:
    none, half, full = (restore_photo(astronaut, mini, faces, RestoreOptions(strength=s)) for s in (0, 0.5, 1))
    assert np.array_equal(none.pixels, astronaut)
    assert (none.applied_strength, half.applied_strength, full.applied_strength) == (
        (0.0,),
        (pytest.approx(0.5),),
        (pytest.approx(1.0),),
    )
    middle = (astronaut.astype(float) + full.pixels) / 2
    in_range = (full.pixels > 0) & (full.pixels < 255)  # clipped pixels have no middle
    assert np.abs(half.pixels - middle)[in_range].max() <= 1.01


def test_a_sharp_portrait_stays_and_is_told_so(photos: Path, mini: OneStepRestorer, detector: FaceDetector) -> None:
    photo = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    result = restore_photo(photo, mini, detector(photo))
    inside = result.mask > 0.5
    assert np.array_equal(result.pixels, photo)
    assert describe_change(result.applied_strength[0]) == "left as it was: no gain expected"
    full = restore_photo(photo, mini, detector(photo), RestoreOptions(strength=1))
    assert psnr(full.pixels[inside], photo[inside]) > 38  # the model alone does it next to no harm either


class Waxy(torch.nn.Module):
    """A restorer that makes every face smooth, as many do."""

    image_size, device = 256, torch.device("cpu")

    def forward(self, images: torch.Tensor, seeds: object = None) -> torch.Tensor:
        smooth = [cv2.GaussianBlur(x.permute(1, 2, 0).numpy(), (0, 0), 2.0) for x in images]
        return torch.from_numpy(np.stack(smooth)).permute(0, 3, 1, 2)


class Red(Waxy):
    """A restorer that paints."""

    def forward(self, images: torch.Tensor, seeds: object = None) -> torch.Tensor:
        return images * torch.tensor([0.0, 0.5, 0.5])[:, None, None] + torch.tensor([1.0, 0, 0])[:, None, None]


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


def test_a_sharp_portrait_stays_whatever_the_restorer(photos: Path, detector: FaceDetector) -> None:
    photo = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    faces = detector(photo)
    result, full = (restore_photo(photo, Waxy(), faces, RestoreOptions(strength=s)) for s in ("auto", 1))
    inside = result.mask > 0.5
    assert psnr(result.pixels[inside], photo[inside]) > 40
    assert psnr(full.pixels[inside], photo[inside]) < 36


def test_a_restorer_of_random_weights_changes_next_to_nothing(
    tiny: OneStepRestorer, test_faces: list[Path], astronaut: np.ndarray, faces: tuple[Face, ...]
) -> None:
    for path in test_faces[:4]:
        face = read_photo(path).pixels
        assert psnr(restore_aligned(face, tiny).pixels, face) > 38
    assert psnr(restore_photo(astronaut, tiny, faces).pixels, astronaut) > 40


def test_of_a_sharp_face_larger_than_the_crop_all_detail_stays(train_faces: Path, mini: OneStepRestorer) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    photo = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    before, after = (finest(x)[200:800, 200:800].std() for x in (photo, restore_aligned(photo, mini).pixels))
    assert after > 0.9 * before


@pytest.mark.parametrize("sigma", [12, 25])
def test_a_face_larger_than_the_crop_loses_its_noise(train_faces: Path, mini: OneStepRestorer, sigma: int) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    clean = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    result = restore_aligned(noisy, mini)
    assert psnr(result.pixels, clean) > psnr(noisy, clean) + 5
    assert result.removed_artifacts == ("noise",)
    assert (
        describe_change(result.applied_strength[0], True, result.removed_artifacts[0])
        != "left as it was: no gain expected"
    )


def test_a_face_of_blocks_keeps_no_finer_grid(train_faces: Path, mini: OneStepRestorer) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    clean = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    blocks = cv2.resize(
        cv2.resize(clean, (128, 128), interpolation=cv2.INTER_AREA), (1024, 1024), interpolation=cv2.INTER_NEAREST
    )
    result = restore_aligned(blocks, mini)
    assert psnr(result.pixels, clean) > psnr(blocks, clean) + 0.5
    before, after = (finest(x)[200:800, 200:800].std() for x in (blocks, result.pixels))
    assert after < 0.6 * before


def finest(pixels: np.ndarray) -> np.ndarray:
    """What lies beyond the restorer's 256 pixels."""
    x = pixels.astype(np.float32)
    return x - cv2.resize(cv2.resize(x, (256, 256), interpolation=cv2.INTER_AREA), (1024, 1024))


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


def test_a_black_and_white_photo_stays_so(photos: Path, mini: OneStepRestorer, detector: FaceDetector) -> None:
    photo = read_photo(photos / "solvay_1927_group.jpg").pixels
    result = restore_photo(photo, mini, detector(photo), RestoreOptions(faces=(0, 9, 28)))
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


def test_batches_do_not_change_the_picture(
    photos: Path, mini: OneStepRestorer, detector: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = read_photo(photos / "solvay_1927_group.jpg").pixels
    found = detector(photo)[:5]
    calls = []
    results = [
        restore_photo(photo, mini, found, RestoreOptions(batch_size=n, seed=3), lambda d, t: calls.append((d, t)))
        for n in (1, 3)
    ]
    assert np.abs(results[0].pixels.astype(int) - results[1].pixels).max() <= 1
    assert calls == [(i, 5) for i in range(6)] + [(0, 5), (3, 5), (5, 5)]


def test_out_of_memory_halves_the_batch(tiny: OneStepRestorer) -> None:
    sizes = []

    class Cramped(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return images

    crops = [np.full((64, 64, 3), i / 8, np.float32) for i in range(5)]
    restored = restore_crops(crops, Cramped(), RestoreOptions(batch_size=4))
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert np.allclose(restored, crops)


@pytest.mark.parametrize(
    ("device", "processors", "size", "batch"),
    [("cpu", 1, 256, 4), ("cpu", 1, 512, 1), ("cuda", 132, 512, 4), ("cuda", 28, 512, 1), ("cuda", 28, 256, 4)],
)
def test_a_face_that_fills_the_device_goes_alone(device, processors, size, batch, monkeypatch) -> None:
    monkeypatch.setattr("quantface_core.stages.restore.processors", lambda _: processors)
    assert default_batch_size(size, torch.device(device)) == batch


def test_no_memory_for_one_face_says_what_to_do(tiny: OneStepRestorer) -> None:
    class Full(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(QuantFaceError, match="not enough memory on cpu for one face"):
        restore_crops([np.zeros((64, 64, 3), np.float32)] * 3, Full(), RestoreOptions())


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
    assert small.restored == (0,)
    with pytest.raises(ImageError, match="an aligned face is square"):
        restore_aligned(np.ascontiguousarray(face[:128]), mini)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3))],
)
def test_what_is_no_photo_is_refused(tiny: OneStepRestorer, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="photo"):
        restore_photo(pixels, tiny, [])


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 1.5},
        {"strength": float("nan")},
        {"strength": "strong"},
        {"upscale": 3},
        {"batch_size": -1},
        {"seed": -1},
        {"color": "sepia"},
        {"faces": "biggest"},
        {"order": "loudest"},
    ],
)
def test_options_out_of_range_are_refused(tiny: OneStepRestorer, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options)).split("_")[0].replace("color", "colour")):
        restore_photo(np.zeros((8, 8, 3), np.uint8), tiny, [], RestoreOptions(**options))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 40)])
def test_pictures_of_a_pixel_s_width_come_back(mini: OneStepRestorer, shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 90, np.uint8)
    face = face_in_box((-5.0, -5.0, 20.0, 20.0))
    assert restore_photo(photo, mini, [face]).pixels.shape == photo.shape


def test_a_face_that_leaves_the_photo_is_restored_until_it_is_outside(mini: OneStepRestorer) -> None:
    photo = np.full((200, 200, 3), 90, np.uint8)
    inside = face_in_box((60.0, 60.0, 60.0, 80.0))
    counts = []
    for left in np.arange(220, 260, 8.25):
        result = restore_photo(photo, mini, [inside, face_in_box((float(left), 60.0, 60.0, 80.0))])
        counts.append(len(result.restored))
    assert counts[0] == 2
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


@pytest.mark.parametrize("strength", ["auto", 1.0])
def test_what_is_not_finite_is_never_pasted(tiny: OneStepRestorer, strength: float | str) -> None:
    broken = copy.deepcopy(tiny)
    broken.forward = lambda images, *_: torch.full_like(images, float("nan"))  # type: ignore[method-assign]
    with pytest.raises(QuantFaceError, match="not finite"):
        restore_aligned(np.full((64, 64, 3), 90, np.uint8), broken, RestoreOptions(strength=strength))
