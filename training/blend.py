"""Train the blend network: how much of a restored face to use, per pixel (quantface_core/faces/blend.py).

    python training/blend.py pairs --models quantface-mini-w4a4 quantface-mini --faces ../shared/faces/train --count 2400 --output pairs.npz
    python training/blend.py train pairs.npz --output blend.safetensors

`pairs` degrades faces evenly from clean to severe, cleans and restores them, and saves (degraded, restored, original).
`train` also imitates other restorers by altering the restored faces (other_restorers.py).
"""  # noqa: E501

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from averaging import averaged
from conditions import draw_crop, through_photo
from data import load_faces, split, to_tensor
from other_restorers import Faces, altered
from safetensors.torch import save_file
from torch import Tensor

from quantface_core import load_restorer, restorer_path
from quantface_core.faces.blend import BlendNetwork
from quantface_core.faces.color import match_color
from quantface_core.io.atomic import atomic_path
from quantface_core.metrics.builtin import psnr

SEED = 20262
_FLOOR = 2e-6  # squared error (57 dB) below which no difference is visible
_WORST = 4.0  # bound of a logarithmic loss: beyond it a face teaches only that it is bad
_GOOD = 28.0  # dB from which inputs are nearly good and a wrong share shows most: drawn three times as often
_DECAY = 0.99  # of the weights' average
_PATCH = 32  # pixels, side of a region; the blend is judged per region


class Pairs(NamedTuple):
    """Faces degraded, restored and as they were."""

    faces: np.ndarray  # [N, 3, S, S, 3] uint8
    sides: np.ndarray  # [N], of each in its photo, in pixels


def make_pairs(models: list[str], faces: np.ndarray, count: int, seed: int) -> Pairs:
    """So many pairs; models alternate, severities are spread evenly."""
    rng = np.random.default_rng(seed)
    restorers = [load_restorer(restorer_path(name), dtype=None) for name in models]
    severities = rng.permutation((np.arange(count) + rng.random(count)) / count)
    rows, sides = [], []
    for index, severity in enumerate(severities):
        bad, original, side = draw_crop(faces, float(severity), rng)
        with torch.inference_mode():
            restored = restorers[index % len(restorers)](to_tensor(bad)[None])[0].permute(1, 2, 0).numpy() / 2 + 0.5
        restored = match_color(restored, np.divide(bad, 255, dtype=np.float32), "wavelet")
        sides.append(side)
        clean = through_photo(original, side)
        rows.append(np.stack([bad, np.rint(restored.clip(0, 1) * 255).astype(np.uint8), clean]))
        if index % 50 == 49:
            print(f"{index + 1} of {count} pairs", flush=True)
    return Pairs(np.stack(rows), np.array(sides))


def load_pairs(files: list[Path]) -> Pairs:
    """The pairs of files that `pairs` wrote."""
    loaded = [np.load(file) for file in files]
    return Pairs(*(np.concatenate([one[name] for one in loaded]) for name in Pairs._fields))


def in_other_light(row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same face in several states [N, H, W, 3], in other contrast and brightness, or without colour."""
    if rng.random() < 0.1:
        row = row.mean(-1, keepdims=True).repeat(3, -1)
    if rng.random() < 0.5:
        row = (row - 0.5) * rng.uniform(0.6, 1.2) + 0.5 + rng.uniform(-0.12, 0.12)
    return row[:, :, ::-1] if rng.random() < 0.5 else row


def draw_weights(pairs: Pairs) -> np.ndarray:
    """The probability of drawing each pair, [N]."""
    scores = np.array([float(psnr(*(torch.from_numpy(row[i])[None] / 255 for i in (0, 2)))) for row in pairs.faces])
    weights = np.where(scores > _GOOD, 3.0, 1.0)
    return weights / weights.sum()


def batch(pairs: Pairs, weights: np.ndarray, size: int, step: int, nonsense: bool) -> list[Tensor]:
    """Degraded, restored, original, and restored as the photo's pixels show it: each [size, 3, H, W] in 0 to 1.

    A function of the step alone.
    """
    rng = np.random.default_rng((SEED, step))
    rows = []
    for index in rng.choice(len(weights), size=size, p=weights):
        bad, restored, clean = pairs.faces[index].astype(np.float32) / 255
        stranger = pairs.faces[rng.integers(len(weights)), 1].astype(np.float32) / 255
        restored = altered(Faces(bad, restored, clean, stranger), nonsense, rng).clip(0, 1)
        pasted = through_photo(restored.astype(np.float32), pairs.sides[index])
        row = in_other_light(np.stack([bad, restored.astype(np.float32), clean, pasted]), rng)
        rows.append(row.clip(0, 1).astype(np.float32))
    return [torch.from_numpy(np.ascontiguousarray(x)) for x in np.stack(rows).transpose(1, 0, 4, 2, 3)]


def sharpness(image: Tensor) -> Tensor:
    """Mean magnitude of fine detail, [B]."""
    detail = image - F.avg_pool2d(image, 3, stride=1, padding=1)
    return detail[..., 8:-8, 8:-8].abs().mean((1, 2, 3))


def loss_of(logit: Tensor, bad: Tensor, restored: Tensor, clean: Tensor, sharp: float, harm: float) -> Tensor:
    """Log squared error relative to the better of input and restored, per face and per region, and lost sharpness."""
    blended = bad + logit.sigmoid() * (restored - bad)
    squared = [(x - clean).square().mean(1, keepdim=True) for x in (blended, bad, restored)]

    def log_ratio(errors: list[Tensor]) -> Tensor:
        mine, before, after = ((e + _FLOOR).log() for e in errors)
        return (mine - torch.minimum(before, after)) + harm * (mine - before).relu()

    whole = log_ratio([e.mean((1, 2, 3)) for e in squared]).clamp_max(_WORST)
    local = log_ratio([F.avg_pool2d(e, _PATCH) for e in squared]).clamp_max(_WORST)
    lost = (sharpness(clean) / sharpness(blended).clamp_min(1e-4)).log().relu()
    # A saturated share would stop learning.
    return whole.mean() + 0.5 * local.mean() + sharp * lost.mean() + 2e-3 * logit.square().mean()


def train(
    pairs: Pairs, steps: int, size: int, rate: float, sharp: float, harm: float, network: BlendNetwork
) -> BlendNetwork:
    average = averaged(network, _DECAY)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    weights = draw_weights(pairs)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
        # First what helps, then that nonsense does not: with both from the start, training converges to using nothing.
        bad, restored, clean, pasted = batch(pairs, weights, size, step, step > steps // 4)
        loss = loss_of(network.logits(bad, restored), bad, pasted, clean, sharp, harm)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        if step % 50 == 49:
            print(f"{step + 1}/{steps} loss {float(loss.detach()):.3f}", flush=True)
    assert isinstance(average.module, BlendNetwork)
    return average.module


@torch.inference_mode()
def report(network: BlendNetwork, pairs: Pairs) -> None:
    """PSNR of input, restored and blended by quality of the input, on pairs that were not trained on."""
    pasted = np.stack([through_photo(row[1], side) for row, side in zip(*pairs, strict=True)])
    faces = (*pairs.faces.swapaxes(0, 1), pasted)
    bad, restored, clean, after = (to_tensor(images) / 2 + 0.5 for images in faces)
    share = torch.cat([network(a, b) for a, b in zip(bad.split(8), restored.split(8), strict=True)])
    scores = [psnr(x, clean) for x in (bad, after, bad + share * (after - bad))]
    for part in scores[0].argsort(descending=True).chunk(5):
        print("input {:.2f}  restored {:.2f}  blended {:.2f} dB".format(*(float(s[part].mean()) for s in scores)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("pairs")
    making.add_argument("--models", nargs="+", required=True)
    making.add_argument("--faces", type=Path, required=True, help="folder of aligned clean faces")
    making.add_argument("--count", type=int, default=600)
    making.add_argument("--held-out", action="store_true", help="use the faces that no model was trained on")
    making.add_argument("--seed", type=int, default=SEED)
    making.add_argument("--output", type=Path, required=True, help="an .npz file")
    training = commands.add_parser("train")
    training.add_argument("pairs", type=Path, nargs="+")
    training.add_argument("--validate", type=Path, nargs="*", default=[])
    training.add_argument("--start", type=Path, help="a trained network to start from")
    training.add_argument("--steps", type=int, default=1500)
    training.add_argument("--batch", type=int, default=12)
    training.add_argument("--rate", type=float, default=2e-3)
    training.add_argument("--sharp", type=float, default=0.1, help="weight of detail relative to squared error")
    training.add_argument("--harm", type=float, default=3.0, help="extra weight of being worse than the input")
    training.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    if arguments.command == "pairs":
        faces = split(load_faces(arguments.faces))[1 if arguments.held_out else 0]
        pairs = make_pairs(arguments.models, faces, arguments.count, arguments.seed)
        with atomic_path(arguments.output) as path:
            np.savez(path, **pairs._asdict())
        return
    from quantface_core.faces.blend import load_blend

    network = load_blend(arguments.start).requires_grad_(True) if arguments.start else BlendNetwork()
    pairs = load_pairs(arguments.pairs)
    settings = (arguments.steps, arguments.batch, arguments.rate, arguments.sharp, arguments.harm)
    network = train(pairs, *settings, network).eval()
    with atomic_path(arguments.output) as path:
        save_file({name: t.half().contiguous() for name, t in network.state_dict().items()}, path)
    for path in arguments.validate:
        print(path.name)
        report(network, load_pairs([path]))


if __name__ == "__main__":
    main()
