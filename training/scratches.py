"""Train the network that segments and inpaints scratches (quantface_core/faces/scratch_network.py).

    python training/scratches.py --faces ../shared/faces/train --photos ../shared/photos --output scratches.safetensors

Regions of clean photos, at many sizes and in the tones of old prints, are damaged (scratch_damage.py) and mapped to the
undamaged ones and to where the damage is. Interrupted, it resumes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from averaged_trainer import AveragedTrainer
from backgrounds import dead_leaves, with_details, with_glasses
from data import jitter_light, load_faces, split
from safetensors.torch import save_file
from scratch_damage import damage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from quantface_core.bit_depth import to_8_bits
from quantface_core.degrade import Degradation, degrade
from quantface_core.faces.scratch_network import ScratchNetwork, load_scratch_network
from quantface_core.io.atomic import atomic_path
from quantface_core.io.photos import read_photo
from quantface_core.pipelines.jobs import folder_images

SEED = 20264
_PATCH = 128  # pixels, side of a region
_SIDES = (110, 700)  # pixels, side of the whole face that a region is cut from; drawn log-uniformly
_DRAWN, _PHOTO = 0.35, 0.15  # probability of a region of overlapping shapes, and of a photo with faces
_DETAILED = 0.12, 0.7  # probability that fine details are drawn into photos, and into shapes; they stay
_GLASSES = 0.25  # probability that a face gets glasses
_WHOLE = 0.3  # probability that there is no damage
_SOFT = 0.45  # probability that the scene is soft, as scans are
_VISIBLE = 0.08  # opacity from which damage is to be found
_BAD = Degradation(
    (0.0, 0.0), 0.0, (1.0, 1.0), (0.0, 12.0), 0.8, 0.3, (50, 98), 0.0, coarse_noise=0.5, grain_sigma=(0.5, 1.5),
    webp=0.1, lossless=0.4, sharpen=0.15,
)  # fmt: skip


@dataclass
class Photos:
    """What damage is drawn on."""

    faces: np.ndarray  # [N, S, S, 3] uint8, aligned
    others: Sequence[np.ndarray]  # [H, W, 3] uint8, of any size


def scene(photos: Photos, rng: np.random.Generator) -> np.ndarray:
    """[128, 128, 3] uint8: a part of a face or photo at a random size, or other shapes; soft, as scans are."""
    kind = rng.random()
    if kind < _DRAWN:
        clean = dead_leaves(_PATCH, rng)
    else:
        from_photo = kind < _DRAWN + _PHOTO
        pictures = photos.others if from_photo else photos.faces
        clean = pictures[int(rng.integers(len(pictures)))]
        if not from_photo and rng.random() < _GLASSES:
            clean = with_glasses(clean, rng)
        smallest, largest = map(math.log, _SIDES)
        factor = rng.uniform(0.35, 1.3) if from_photo else math.exp(rng.uniform(smallest, largest)) / len(clean)
        height, width = (max(_PATCH, round(n * factor)) for n in clean.shape[:2])
        smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        clean = np.asarray(cv2.resize(clean, (width, height), interpolation=smooth), np.uint8)
        top, left = rng.integers(height - _PATCH + 1), rng.integers(width - _PATCH + 1)
        clean = clean[top : top + _PATCH, left : left + _PATCH]
        if rng.random() < 0.2:
            clean = np.rot90(clean, int(rng.integers(4)))
        clean = np.ascontiguousarray(clean[:, :: int(rng.choice((-1, 1)))])
    if rng.random() < _DETAILED[kind < _DRAWN]:
        clean = with_details(clean, rng)
    if rng.random() < _SOFT:
        clean = np.asarray(cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.3, 2.0)), np.uint8)
    return toned(clean, rng)


def toned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In another light, often black and white, sepia or faded: [H, W, 3] uint8."""
    image, kind = jitter_light(image, rng), rng.random()
    if kind < 0.65:
        gray = image.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
        paper = 1 - (kind < 0.3) * rng.uniform(0, 0.5) * np.array((0, 0.4, 1))
        image = gray[..., None] * paper
    if rng.random() < 0.4:
        low, high = rng.uniform(0, 60), rng.uniform(150, 255)
        image = low + image * ((high - low) / 255)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def example(photos: Photos, rng: np.random.Generator, whole: float = _WHOLE) -> tuple[np.ndarray, ...]:
    """(damaged, clean) [128, 128, 3] uint8, and where the damage is [128, 128] uint8 of 0 and 1."""
    clean = scene(photos, rng)
    bad, opacity = clean, np.zeros(clean.shape[:2], np.float32)
    if rng.random() >= whole:
        image, opacity = damage(np.float32(1 / 255) * clean, rng)
        bad = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    difference = np.abs(bad.astype(np.int16) - clean).max(-1)
    where = (opacity > _VISIBLE) & (difference > 5)
    return degrade(bad, int(rng.integers(2**31)), _BAD), clean, where.astype(np.uint8)


@dataclass
class Examples(Dataset[tuple[Tensor, ...]]):
    """Batches by step: each a function of seed and step alone."""

    photos: Photos
    size: int
    steps: range
    seed: int = SEED

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """(damaged, clean) [size, 3, 128, 128] and where [size, 1, 128, 128], uint8."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, self.steps[index]))
        bad, clean, where = zip(*(example(self.photos, rng) for _ in range(self.size)), strict=True)
        pictures = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) for images in (bad, clean))
        return *pictures, torch.from_numpy(np.stack(where))[:, None]


def loss_of(network: ScratchNetwork, bad: Tensor, clean: Tensor, where: Tensor) -> Tensor:
    """Of the segmentation, cross-entropy and Dice; of what is inpainted, the mean absolute error.

    The batch is uint8.
    """
    bad, clean = ((x / 255).contiguous(memory_format=torch.channels_last) for x in (bad, clean))
    where = where.float()
    with torch.autocast("cpu", torch.bfloat16):
        drawn, logits = network(bad)
    logits, near = logits.float(), F.max_pool2d(where, 5, 1, 2)
    found = F.binary_cross_entropy_with_logits(logits, where)
    share = logits.sigmoid()
    dice = 1 - (2 * (share * where).sum((1, 2, 3)) + 20) / ((share + where).sum((1, 2, 3)) + 20)
    error = (drawn.float() - clean).abs()
    return found + 0.3 * dice.mean() + 4 * (error * near).sum() / (3 * near.sum() + 1) + 0.2 * error.mean()


def trainer_of(rate: float, steps: int, network: ScratchNetwork | None = None) -> AveragedTrainer:
    """A trainer of a network, by default a new one."""
    network = network or ScratchNetwork()
    return AveragedTrainer(network.to(memory_format=torch.channels_last), loss_of, rate, steps)  # type: ignore[call-overload]


@torch.inference_mode()
def report(network: ScratchNetwork, photos: Photos) -> str:
    """On held-out faces: recall and precision of the damage found, its PSNR before and after, and false finds."""
    rng = np.random.default_rng(SEED)
    rows = [example(photos, rng, whole=0.0) for _ in range(48)] + [example(photos, rng, whole=1.0) for _ in range(24)]
    bad, clean, where = (np.stack(images) for images in zip(*rows, strict=True))
    x, target = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 for images in (bad, clean))
    truth = torch.from_numpy(where)[:, None] > 0
    drawn, logits = network(x)
    found = logits > 0
    hit = (found & truth).sum()
    error = [(10 * -((y - target).square().mean(1, keepdim=True)[truth].mean()).log10()) for y in (x, drawn)]
    false = found[48:].float().mean()
    return (
        f"recall {float(hit / truth.sum()):.3f} precision {float(hit / found[:48].sum()):.3f} "
        f"{float(error[0]):.2f} -> {float(error[1]):.2f} dB  false {float(false):.5f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="folder of aligned clean faces")
    parser.add_argument("--photos", type=Path, required=True, help="folder of other undamaged photos")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=SEED, help="of what is drawn: another one for a run from a start")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw damage")
    parser.add_argument("--start", type=Path, help="a trained network to start from")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    faces, held = split(load_faces(arguments.faces))
    others = [to_8_bits(read_photo(path).pixels) for path in folder_images(arguments.photos)]
    start = load_scratch_network(arguments.start).float().requires_grad_(True) if arguments.start else None
    trainer, state = trainer_of(arguments.rate, arguments.steps, start), arguments.output.with_suffix(".state")
    if state.exists():
        trainer.load_state(state)
    examples = Examples(Photos(faces, others), arguments.batch, range(trainer.step, arguments.steps), arguments.seed)
    for batch in DataLoader(examples, batch_size=None, num_workers=arguments.workers):
        loss = trainer.update(*batch)
        if trainer.step % 250 == 0 or trainer.step == arguments.steps:
            trainer.save_state(state)
            network = cast(ScratchNetwork, trainer.average.module.eval())
            with atomic_path(arguments.output) as path:
                save_file({name: t.half().contiguous() for name, t in network.state_dict().items()}, path)
            print(
                f"{trainer.step}/{arguments.steps} loss {loss:.4f}  {report(network, Photos(held, others))}", flush=True
            )


if __name__ == "__main__":
    main()
