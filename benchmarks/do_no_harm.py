"""Is a restored face ever worse than it was, and is it still that person? From clean inputs to severe.

    python benchmarks/do_no_harm.py [--models quantface-mini quantface-mini-w4a4] [--strengths 1 auto] [--faces N]

Six fixed degradations of clean test faces, in the order of a camera's damage and by a recipe that no training used;
each model is run through `restore_aligned`, as a user would. Prints one table per model; changes are means over the
faces of restored less input, with their standard errors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from identity import Identity
from images import SHARED, load, to_unit
from iqa import create_metric, score
from numpy.typing import NDArray
from PIL import Image
from report import describe_machine, table

from quantface_core import RestoreOptions, load_restorer, restore_aligned, restorer_path
from quantface_core.bit_depth import to_8_bits
from quantface_core.faces.paste import face_mask
from quantface_core.restorer import Restorer

Face = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """A photo's degradation, at 256 pixels."""

    blur: float  # sigma of a Gaussian in pixels
    shrink: float  # downscaling factor; 1 = none
    noise: float  # standard deviation in gray levels of 255, at the small size
    quality: int  # of JPEG, at the small size


LEVELS = {
    "clean": Level(0.0, 1.0, 0.0, 97),
    "mild": Level(0.6, 1.3, 2.0, 90),
    "medium": Level(1.2, 2.5, 6.0, 75),
    "heavy": Level(2.5, 4.5, 10.0, 55),
    "severe": Level(4.0, 7.0, 14.0, 40),
    "noisy": Level(1.2, 1.0, 12.0, 90),  # a little soft, at high ISO
}


def damaged(face: Face, level: Level, seed: int) -> Face:
    """Degrade one face [S, S, 3] uint8 to a level; the seed draws its noise."""
    size = len(face)
    x: Any = face.astype(np.float32)
    if level.blur:
        x = cv2.GaussianBlur(x, (0, 0), level.blur)
    if level.shrink > 1:
        x = cv2.resize(x, (round(size / level.shrink),) * 2, interpolation=cv2.INTER_AREA)
    if level.noise:
        x = x + np.random.default_rng(seed).normal(0, level.noise, x.shape).astype(np.float32)
    bgr = np.clip(np.rint(x), 0, 255).astype(np.uint8)[..., ::-1]
    x = cv2.imdecode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, level.quality])[1], cv2.IMREAD_COLOR)
    return np.ascontiguousarray(cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC)[..., ::-1])


def sharpness(pictures: list[Face], originals: list[Face]) -> float:
    """Mean absolute Laplacian of brightness inside the face, relative to the originals'; mean of the ratios."""
    inside = face_mask(len(originals[0])) > 0.5
    values = [
        [np.abs(cv2.Laplacian(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F))[inside].mean()
         for x in pair]
        for pair in zip(pictures, originals, strict=True)
    ]  # fmt: skip
    return float(np.mean([a / b for a, b in values]))


def restored_at(face: Face, restorer: Restorer, strength: str, grain: float = RestoreOptions.grain) -> Face:
    """An aligned face, restored at a strength: "auto", or a number."""
    options = RestoreOptions(strength="auto" if strength == "auto" else float(strength), grain=grain)
    return to_8_bits(restore_aligned(face, restorer, options).pixels)


class Judge:
    """All columns of the table for a set of images."""

    HEADER = (
        "PSNR (dB)", "PSNR change", "worst loss (dB)", "SSIM", "MS-SSIM", "sharpness", "NIQE", "identity",
        "identity change",
    )  # fmt: skip

    def __init__(self, originals: list[Face]) -> None:
        self.originals, self.clean = originals, to_unit(originals)
        self.compared = [create_metric(name) for name in ("psnr", "ssim", "ms_ssim")]
        self.niqe, self.identity = create_metric("niqe"), Identity()

    def __call__(self, pictures: list[Face], inputs: list[Face] | None = None) -> list[str | float]:
        """One row: of restored `pictures`, with their changes from the `inputs`; of the inputs themselves, without."""
        images = to_unit(pictures)
        psnr, ssim, ms_ssim = (score(metric, images, self.clean).numpy() for metric in self.compared)
        identity = np.asarray(self.identity(pictures, self.originals))
        changes = ["", "", ""]
        if inputs is not None:
            gain = psnr - score(self.compared[0], to_unit(inputs), self.clean).numpy()
            drift = identity - np.asarray(self.identity(inputs, self.originals))
            changes = [with_error(gain), f"{max(0.0, -gain.min()):.3f}", with_error(drift)]
        naturalness = float(score(self.niqe, images).mean())
        return [
            float(psnr.mean()), *changes[:2], float(ssim.mean()), float(ms_ssim.mean()),
            sharpness(pictures, self.originals), naturalness, float(identity.mean()), changes[2],
        ]  # fmt: skip


def with_error(values: NDArray[np.float64]) -> str:
    """The mean of one value per face, and its standard error."""
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=SHARED / "faces" / "test")
    parser.add_argument("--models", nargs="+", default=["quantface-mini", "quantface-mini-w4a4"])
    parser.add_argument("--strengths", nargs="+", default=["1", "auto"], help="auto, or numbers from 0 to 1")
    parser.add_argument("--grains", nargs="+", type=float, default=[RestoreOptions.grain], help="shares of kept noise")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--faces", type=int, default=64, help="number of faces, the first ones")
    parser.add_argument("--picture", type=Path, help="folder for a sheet per level: rows input, restored ..., original")
    arguments = parser.parse_args()

    originals = load(arguments.folder)[: arguments.faces]
    judge = Judge(originals)
    print(f"{len(originals)} faces of {arguments.folder.name}\n{describe_machine()}\n")
    inputs = {name: [damaged(x, LEVELS[name], i) for i, x in enumerate(originals)] for name in arguments.levels}
    kept = {name: judge(pictures) for name, pictures in inputs.items()}
    for model in arguments.models:
        restorer = load_restorer(restorer_path(model), dtype=None)
        rows: list[list[str | float]] = []
        for name, pictures in inputs.items():
            rows.append([name, "input", *kept[name]])
            shown = [pictures]
            for strength, grain in product(arguments.strengths, arguments.grains):
                restored = [restored_at(x, restorer, strength, grain) for x in pictures]
                label = f"strength {strength}" + (f", grain {grain}" if len(arguments.grains) > 1 else "")
                rows.append([name, label, *judge(restored, pictures)])
                shown.append(restored)
            if arguments.picture:
                sheet([*shown, originals], arguments.picture / f"{Path(model).stem}_{name}.png")
        print(f"{Path(model).stem}\n\n{table(['level', '', *Judge.HEADER], rows)}\n", flush=True)
    print(f"originals: NIQE {float(score(judge.niqe, judge.clean).mean()):.3f}")


def sheet(rows: list[list[Face]], path: Path) -> None:
    """Write the first eight faces, one row per kind, unscaled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(row[:8], 1) for row in rows])).save(path)


if __name__ == "__main__":
    main()
