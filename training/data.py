"""Clean faces, and how photos degrade them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantface_core.bit_depth import to_8_bits
from quantface_core.degrade import Degradation
from quantface_core.errors import ImageError
from quantface_core.io.photos import read_photo
from quantface_core.pipelines.jobs import folder_images


def recipe_of(severity: float) -> Degradation:
    """Everything that a photo may have been through, from severity 0 (as good as clean) to 1 (hardly a face left)."""
    s = severity
    return Degradation(
        blur_sigma=(1.2 * s, 0.2 + 5.0 * s),
        downscale=(1 + 2.5 * s, 1 + 7.5 * s),
        noise_sigma=(0.0, 1 + 22 * s),
        jpeg_quality=(round(93 - 63 * s), round(99 - 30 * s)),
        second_order=0.4 * min(1.0, 2 * s),
        motion=0.15,
        coarse_noise=0.3,
        webp=0.2,
        sharpen=0.15,
    )


def one_damage(severity: float, rng: np.random.Generator) -> Degradation:
    """One damage that real photos have without blur: noise in a sharp one, strong compression, or blocks."""
    s = severity
    none = Degradation((0.0, 0.3), 0.5, (1.0, 1.0), (0.0, 1.0), jpeg_quality=(93, 99), second_order=0.0)
    changes: tuple[dict[str, Any], ...] = (
        {"noise_sigma": (2 + 10 * s, 4 + 30 * s), "coarse_noise": 0.3},
        {"jpeg_quality": (round(60 - 52 * s), round(85 - 60 * s)), "webp": 0.2},
        {"downscale": (1 + 2 * s, 1.5 + 5 * s), "blocks": 1.0},
    )
    return replace(none, **changes[rng.integers(len(changes))])


def soft_and_noisy(severity: float) -> Degradation:
    """A photo at high ISO, or a scan: a little soft, with noise at its own resolution."""
    s = severity
    return Degradation(
        blur_sigma=(0.5 + 0.3 * s, 1.2 + 1.8 * s),
        downscale=(1.0, 1.2),
        noise_sigma=(2 + 6 * s, 6 + 26 * s),
        jpeg_quality=(75, 98),
        second_order=0.0,
        coarse_noise=0.3,
        webp=0.1,
    )


def small_and_noisy(severity: float) -> Degradation:
    """A small face in a noisy photo: the noise is enlarged with it, and looks like detail."""
    s = severity
    return Degradation(
        blur_sigma=(0.3, 0.8 + 1.2 * s),
        downscale=(1.0, 3.2),
        noise_sigma=(1 + 3 * s, 4 + 16 * s),
        jpeg_quality=(78, 97),
        second_order=0.0,
        coarse_noise=0.2,
        webp=0.1,
    )


def tiny(severity: float) -> Degradation:
    """A face of few pixels, as in a group photo."""
    s = severity
    return Degradation(
        (0.0, 1 + 2 * s), 0.5, (4.0, 5 + 9 * s), (0.0, 3 + 7 * s), jpeg_quality=(55, 96), second_order=0.2,
        coarse_noise=0.3, webp=0.05,
    )  # fmt: skip


def sharp_and_noisy(severity: float) -> Degradation:
    """A sharp photo with sensor noise, from none to strong."""
    s = severity
    return Degradation(
        (0.0, 0.4), 0.5, (1.0, 1.0), (1 + 4 * s, 3 + 19 * s), jpeg_quality=(88, 99), second_order=0.0, coarse_noise=0.2
    )


def slightly_soft(severity: float) -> Degradation:
    """A good photo that a site has downscaled slightly."""
    s = severity
    return Degradation(
        (0.0, 0.1 + 0.5 * s), 0.5, (1.0, 1.0 + 0.3 * s), (0.0, 0.3 + 1.5 * s), jpeg_quality=(86, 99),
        second_order=0.0, webp=0.2, sharpen=0.1,
    )  # fmt: skip


def nearly_clean(severity: float) -> Degradation:
    """A sharp photo as a camera stores it, which a restorer had better leave alone."""
    s = severity
    return Degradation(
        (0.0, 0.1 + 0.3 * s), 0.5, (1.0, 1.0), (0.0, 0.2 + 1.2 * s), jpeg_quality=(91, 100), second_order=0.0, webp=0.1
    )


def load_faces(folder: Path) -> np.ndarray:
    """All images of a folder in name order: [N, H, W, 3] uint8.

    Raises UsageError, ImageError, also where one has another size than the first.
    """
    files = folder_images(folder)
    images = [to_8_bits(read_photo(path).pixels) for path in files]
    other = [path for path, image in zip(files, images, strict=True) if image.shape != images[0].shape]
    if other:
        raise ImageError(f"{folder}: faces of one size are needed, {other[0].name} has another than {files[0].name}")
    return np.stack(images)


def split(faces: np.ndarray, every: int = 27) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation): every 27th face is held out, so that no choice depends on the test split."""
    held = np.arange(len(faces)) % every == every - 1
    return faces[~held], faces[held]


def to_tensor(images: np.ndarray) -> Tensor:
    """[..., H, W, 3] uint8 -> [..., 3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, -3).float() / 127.5 - 1


def jitter_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary exposure, contrast, white balance and, one time in twelve, remove colour: [H, W, 3] uint8."""
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.94, 1.06, 3)
    x = (image / 255.0) ** rng.uniform(0.8, 1.25) * gain
    if rng.random() < 1 / 12:
        x = np.repeat(x @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    return np.clip(np.rint(x * 255), 0, 255).astype(np.uint8)
