"""Blind degradation of clean faces: the second-order recipe of face restoration, seeded.

Each order blurs (isotropic or anisotropic Gaussian), downscales, adds noise (Gaussian or Poisson, colour or gray) and
compresses to JPEG; a second, milder order follows with some probability; the result is resized back. A recipe may add
other damage that photos suffer: motion blur, grain, WebP, sharpening, blocks. The same image, seed and recipe give the
same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]

_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Degradation:
    """The ranges that a degradation is drawn from, for a 256-pixel face; draws are uniform unless noted."""

    blur_sigma: tuple[float, float] = (0.2, 6.0)  # pixels of the input, each axis; 0 = sharp
    anisotropic: float = 0.5  # probability that the blur's two axes are drawn separately, at an angle
    downscale: tuple[float, float] = (1.0, 8.0)  # factor; 1 = none
    noise_sigma: tuple[float, float] = (0.0, 25.0)  # gray levels of 255; 0 = clean
    gray_noise: float = 0.4  # probability that the three channels share one noise
    poisson: float = 0.3  # probability of signal-dependent noise instead of Gaussian
    jpeg_quality: tuple[int, int] = (30, 95)  # both ends included
    second_order: float = 0.5  # probability of the second, milder order; 0 = never
    motion: float = 0.0  # probability that the blur is along a line instead
    coarse_noise: float = 0.0  # probability of coarse noise, as after demosaicing
    grain_sigma: tuple[float, float] = (0.8, 0.8)  # pixels, of the blur that makes noise coarse; film's is to 2
    webp: float = 0.0  # probability of WebP instead of JPEG
    lossless: float = 0.0  # probability of no compression at all
    sharpen: float = 0.0  # probability that the result is sharpened, by an unsharp mask of up to 1.5
    blocks: float = 0.0  # probability that the result is resized back by repeating pixels


def _blur(
    image: NDArray[np.float32], rng: np.random.Generator, recipe: Degradation, mild: float
) -> NDArray[np.float32]:
    low, high = recipe.blur_sigma
    sigma_x, sigma_y, angle = rng.uniform(low, high) * mild, rng.uniform(low, high) * mild, rng.uniform(0, np.pi)
    if rng.random() >= recipe.anisotropic:
        sigma_y = sigma_x
    if _happens(rng, recipe.motion):
        sigma_x, sigma_y = max(sigma_x, sigma_y), 0.3
    radius = max(1, int(np.ceil(3 * max(sigma_x, sigma_y))))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / max(sigma_x, 1e-3)) ** 2 + (v / max(sigma_y, 1e-3)) ** 2))
    kernel /= kernel.sum()
    return cv2.filter2D(image, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)


def _resize(image: NDArray[np.float32], height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    interpolation = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _noise(
    image: NDArray[np.float32], rng: np.random.Generator, recipe: Degradation, mild: float
) -> NDArray[np.float32]:
    sigma = rng.uniform(*recipe.noise_sigma) * mild
    gray, poisson = rng.random() < recipe.gray_noise, rng.random() < recipe.poisson
    shape = (*image.shape[:2], 1 if gray else 3)
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    if _happens(rng, recipe.coarse_noise):
        low, high = recipe.grain_sigma
        blurred = cv2.GaussianBlur(noise, (0, 0), rng.uniform(low, high) if low < high else low).reshape(shape)
        noise = blurred * np.float32(sigma / max(float(blurred.std()), 1e-6))
    if poisson:  # variance follows the signal; `sigma` is the deviation at mid-gray
        noise = noise * np.sqrt(np.clip(image, 0, 255) / np.float32(127.5))
    return image + noise


def _compress(image: NDArray[np.float32], rng: np.random.Generator, recipe: Degradation) -> NDArray[np.float32]:
    if _happens(rng, recipe.lossless):
        return image
    quality = int(rng.integers(recipe.jpeg_quality[0], recipe.jpeg_quality[1] + 1))
    bgr = np.ascontiguousarray(_to_uint8(image)[:, :, ::-1])
    webp = _happens(rng, recipe.webp)
    kind = (".webp", cv2.IMWRITE_WEBP_QUALITY) if webp else (".jpg", cv2.IMWRITE_JPEG_QUALITY)
    encoded = cv2.imencode(kind[0], bgr, [kind[1], quality])[1]
    decoded: Image8 = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return decoded[:, :, ::-1].astype(np.float32)


def _to_uint8(image: NDArray[np.float32]) -> Image8:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def degrade(image: Image8, seed: int, recipe: Degradation | None = None) -> Image8:
    """Degrade one RGB image [H, W, 3] uint8; returns the same shape and dtype.

    All draws depend only on the seed, so a test set needs no stored low-quality copies.
    """
    recipe = recipe or Degradation()
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    orders = (1.0, 0.5) if rng.random() < recipe.second_order else (1.0,)
    low, high = recipe.downscale
    factor = float(rng.uniform(low, high))
    x = image.astype(np.float32)
    for order, mild in enumerate(orders):
        x = _blur(x, rng, recipe, mild * (1.0 if order == 0 else 1.0 / factor))
        # The first order downscales; the second resizes to around that size, as sharing a photo again does.
        scale = factor if order == 0 else factor * rng.uniform(0.8, 1.25)
        x = _resize(x, max(8, round(height / max(scale, 1.0))), max(8, round(width / max(scale, 1.0))), rng)
        x = _compress(_noise(x, rng, recipe, mild), rng, recipe)
    back = cv2.INTER_NEAREST if _happens(rng, recipe.blocks) else cv2.INTER_CUBIC
    x = cv2.resize(x, (width, height), interpolation=back)
    if _happens(rng, recipe.sharpen):
        x = x + np.float32(rng.uniform(0.2, 1.5)) * (x - cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.7, 2.0))))
    return _to_uint8(x)


def _happens(rng: np.random.Generator, probability: float) -> bool:
    """Draw only if it may happen: recipes without the newer kinds of damage still give the same bytes."""
    return probability > 0 and rng.random() < probability
