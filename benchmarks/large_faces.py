"""Restore faces larger than the restorer's crop, with noise, grain, blocks and compression finer than the crop.

    python benchmarks/large_faces.py [--model quantface-mini-w4a4] [--side 1024] [--picture FOLDER]

Large portraits of test faces, which no training used, are damaged at full resolution only and restored at strength
auto. "finest" is the standard deviation of the detail that the crop's 256 pixels cannot hold; a sharp portrait must
keep all of it, noise and block edges must go.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from images import SHARED
from numpy.typing import NDArray
from PIL import Image
from report import describe_machine, table

from quantface_core import load_restorer, restore_aligned, restorer_path
from quantface_core.bit_depth import to_8_bits
from quantface_core.io.photos import read_photo
from quantface_core.stages.outcome import describe_change
from quantface_core.types import DEFAULT_RESTORER

Photo = NDArray[np.uint8]
DAMAGES = ("none", "noise 12", "noise 30", "grain 15", "blocks 128", "blocks 200", "JPEG 8")


def damaged(photo: Photo, damage: str, seed: int) -> Photo:
    """A photo with one damage: noise or grain of a deviation, enlarged from so many blocks, or a JPEG quality."""
    kind, _, amount = damage.partition(" ")
    if kind == "JPEG":
        encoded = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(amount)])[1]
        return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if kind == "blocks":
        small = cv2.resize(photo, (int(amount),) * 2, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if kind == "none":
        return photo
    noise = np.random.default_rng(seed).normal(size=photo.shape)
    if kind == "grain":
        noise = cv2.GaussianBlur(noise, (0, 0), 1.0)
    return np.clip(np.rint(photo + float(amount) * noise / noise.std()), 0, 255).astype(np.uint8)


def finest(photo: Photo) -> float:
    """Standard deviation, in gray levels, of the detail beyond 256 pixels per side, in the middle of the face."""
    x: NDArray[np.float32] = photo.astype(np.float32)
    detail = x - cv2.resize(cv2.resize(x, (256, 256), interpolation=cv2.INTER_AREA), x.shape[1::-1])
    quarter = len(x) // 4
    return float(detail[quarter:-quarter, quarter:-quarter].std())


def psnr(a: Photo, b: Photo) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(np.float32) - b).mean(), 1e-3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_RESTORER)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--picture", type=Path, help="folder for a before-and-after image per damage")
    arguments = parser.parse_args()
    restorer, size = load_restorer(restorer_path(arguments.model), dtype=None), (arguments.side,) * 2
    faces = SHARED / "faces"
    files = sorted(path for path in (faces / "large").glob("*.jpg") if (faces / "test" / path.name).exists())
    originals = [cv2.resize(read_photo(f).pixels, size, interpolation=cv2.INTER_CUBIC) for f in files]
    rows: list[list[str | float]] = []
    for damage in DAMAGES:
        inputs = [damaged(x, damage, i) for i, x in enumerate(originals)]
        results = [restore_aligned(x, restorer) for x in inputs]
        outputs = [to_8_bits(result.pixels) for result in results]
        means = [np.mean([psnr(a, b) for a, b in zip(x, originals, strict=True)]) for x in (inputs, outputs)]
        deviations = [np.mean([finest(photo) for photo in x]) for x in (originals, inputs, outputs)]
        restored = [result.restored[0] for result in results]
        words = [describe_change(face.applied_strength, True, face.removed_artifacts) for face in restored]
        rows.append([damage, *map(float, means), *map(float, deviations), max(set(words), key=words.count)])
        if arguments.picture:
            arguments.picture.mkdir(parents=True, exist_ok=True)
            pair = np.concatenate([inputs[0], outputs[0]], 1)
            Image.fromarray(pair).save(arguments.picture / f"{damage.replace(' ', '_')}.png")
    print(f"{len(files)} faces of {arguments.side} pixels, {arguments.model}\n{describe_machine()}\n")
    header = ["damage", "PSNR before", "after", "finest, original", "before", "after", "most are"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
