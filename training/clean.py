"""Train the network that removes noise from faces before they are restored (quantface_core/faces/clean_network.py).

    python training/clean.py --faces ../shared/faces/train --output clean.safetensors

Regions of clean faces, at many sizes, with noise of every kind are mapped to the clean ones. Interrupted, it resumes.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from averaged_trainer import AveragedTrainer
from data import jitter_light, load_faces, split
from safetensors.torch import save_file
from torch import Tensor

from quantface_core.degrade import Degradation, degrade
from quantface_core.faces.clean_network import CleanNetwork, load_cleaner
from quantface_core.io.atomic import atomic_path
from quantface_core.metrics.builtin import psnr

SEED = 20263
_PATCH = 64  # pixels, side of a region
_SIDES = (48, 400)  # pixels, side of the whole face that a region is cut from; drawn log-uniformly, at least _PATCH
_GRID = 8  # pixels, side of compression's blocks
_ENLARGED, _LARGEST = 0.3, 2.5  # probability that photo and noise were enlarged, and the factor at most
_SOFT = 0.3  # probability that the photo is a little soft, as scans are


def draw_damage(rng: np.random.Generator) -> Degradation:
    """Noise from none to very strong or the grain of film, kept losslessly or compressed; or compression alone."""
    damage = Degradation(
        (0.0, 0.0), 0.0, (1.0, 1.0), gray_noise=0.3, poisson=0.4, jpeg_quality=(60, 98), second_order=0.0,
        coarse_noise=0.3, webp=0.1, lossless=0.4,
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.25:
        return replace(damage, noise_sigma=_constant(rng.uniform(0, 2)), jpeg_quality=(10, 92), lossless=0.0)
    if kind < 0.35:
        return replace(damage, noise_sigma=_constant(rng.uniform(0, 6)))
    if kind < 0.65:
        film = replace(damage, gray_noise=0.8, coarse_noise=1.0, grain_sigma=(0.5, 2.2))
        return replace(film, noise_sigma=_constant(rng.uniform(2, 24)))
    return replace(damage, noise_sigma=_constant(rng.uniform(4, 40)))


def _constant(value: float) -> tuple[float, float]:
    return value, value


def region(faces: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(damaged, clean) [64, 64, 3] uint8: a part of a face at a random size, light and orientation."""
    factor = rng.uniform(1, _LARGEST) if rng.random() < _ENLARGED else 1
    patch = math.ceil(_PATCH / factor)
    clean = faces[rng.integers(len(faces))]
    smallest, largest = map(math.log, _SIDES)
    side = max(patch + _GRID, round(math.exp(rng.uniform(smallest, largest))))
    smooth = cv2.INTER_AREA if side < len(clean) else cv2.INTER_LANCZOS4
    clean = np.asarray(cv2.resize(clean, (side, side), interpolation=smooth), np.uint8)
    clean = _part(clean, patch + _GRID, rng.integers(side - patch - _GRID + 1, size=2))
    clean = np.rot90(clean[:, :: int(rng.choice((-1, 1)))], int(rng.integers(4)))
    if rng.random() < 0.5:
        clean = jitter_light(clean, rng)
    clean = np.ascontiguousarray(clean)
    if rng.random() < _SOFT:
        clean = np.asarray(cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    bad = degrade(clean, int(rng.integers(2**31)), draw_damage(rng))
    corner = rng.integers(_GRID, size=2)  # compression's blocks begin anywhere
    bad, clean = (_part(image, patch, corner) for image in (bad, clean))
    return (bad, clean) if factor == 1 else (_enlarged(bad), _enlarged(clean))


def _part(image: np.ndarray, side: int, corner: np.ndarray) -> np.ndarray:
    top, left = corner
    return image[top : top + side, left : left + side]


def _enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image, (_PATCH, _PATCH), interpolation=cv2.INTER_CUBIC), np.uint8)


def batch(faces: np.ndarray, size: int, step: int) -> tuple[Tensor, Tensor]:
    """(noisy, clean), each [size, 3, 64, 64] in 0 to 1; a function of the step alone."""
    rng = np.random.default_rng((SEED, step))
    pairs = [region(faces, rng) for _ in range(size)]
    noisy, clean = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 for images in zip(*pairs, strict=True))
    return noisy, clean


def loss_of(network: CleanNetwork, noisy: Tensor, clean: Tensor) -> Tensor:
    """The mean absolute error."""
    loss: Tensor = (network(noisy) - clean).abs().mean()
    return loss


def trainer_of(rate: float, steps: int, network: CleanNetwork | None = None) -> AveragedTrainer:
    """A trainer of a network, by default a new one."""
    return AveragedTrainer(network or CleanNetwork(), loss_of, rate, steps)


@torch.inference_mode()
def report(network: CleanNetwork, faces: np.ndarray) -> str:
    """PSNR of held-out faces before and after, by std of the noise, its blur, and quality of the compression."""
    parts = []
    clean = torch.from_numpy(faces).permute(0, 3, 1, 2) / 255
    damages = (
        (8, 0, 0),
        (15, 0, 0),
        (25, 0, 0),
        (25, 0, 80),
        (12, 1, 0),
        (12, 2, 0),
        (0, 0, 20),
        (0, 0, 50),
        (0, 0, 75),
    )
    for sigma, grain, quality in damages:
        recipe = Degradation(
            (0.0, 0.0), 0.0, (1.0, 1.0), (sigma, sigma), float(grain > 0), 0.0, (quality, quality), 0.0,
            coarse_noise=float(grain > 0), grain_sigma=(grain, grain), lossless=float(not quality),
        )  # fmt: skip
        bad = np.stack([degrade(face, i, recipe) for i, face in enumerate(faces)])
        noisy = torch.from_numpy(bad).permute(0, 3, 1, 2) / 255
        scores = [float(psnr(x, clean).mean()) for x in (noisy, network(noisy).clamp(0, 1))]
        parts.append("{}/{}/{}: {:.2f} -> {:.2f}".format(sigma, grain, quality or "-", *scores))
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="folder of aligned clean faces")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--start", type=Path, help="a trained network to start from")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    faces, held = split(load_faces(arguments.faces))
    start = load_cleaner(arguments.start).float().requires_grad_(True) if arguments.start else None
    trainer, state = trainer_of(arguments.rate, arguments.steps, start), arguments.output.with_suffix(".state")
    if state.exists():
        trainer.load_state(state)
    while trainer.step < arguments.steps:
        loss = trainer.update(*batch(faces, arguments.batch, trainer.step))
        if trainer.step % 500 == 0 or trainer.step == arguments.steps:
            trainer.save_state(state)
            network = cast(CleanNetwork, trainer.average.module.eval())
            with atomic_path(arguments.output) as path:
                save_file({name: t.half().contiguous() for name, t in network.state_dict().items()}, path)
            print(f"{trainer.step}/{arguments.steps} loss {loss:.4f}  {report(network, held)}", flush=True)


if __name__ == "__main__":
    main()
