"""Faces on a photo that Real-ESRGAN enlarged: the network's own, and ours pasted onto it.

    PYTHONPATH=.bench python benchmarks/upscaled.py [--model quantface-mini-w4a4] [--faces N] [--sides 32 64 96 128]

Test faces reduced to several sizes, enlarged four times: by Lanczos, by Real-ESRGAN (`esrgan.py`), and restored on the
latter's photo at strength auto. PSNR within the face, and dlib's identity distance, to the original.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import cv2
import numpy as np
import torch
from do_no_harm import Face as Image
from esrgan import real_esrgan
from identity import Identity
from images import SHARED, load
from report import describe_machine, table

from quantface_core import FaceDetector, detector_path, load_restorer, restore_photo, restorer_path
from quantface_core.restorer.upscaler import Upscaler
from quantface_core.stages.canvas import enlarged
from quantface_core.types import Face

FACTOR = 4
WAYS = ("Lanczos", "Real-ESRGAN", "Real-ESRGAN, faces restored")


def reduced(image: Image, side: int, quality: int) -> Image:
    """A face [S, S, 3] at a side in pixels, compressed as JPEG where the quality is below 100."""
    small = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    if quality < 100:
        encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        small = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return np.ascontiguousarray(small)


def placed(face: Face, scale: float) -> Face:
    """A detection in a picture of another size."""
    box, landmarks = (np.multiply(places, scale).tolist() for places in (face.box, face.landmarks))
    return Face(tuple(box), tuple(map(tuple, landmarks)), face.score)


def psnr_within(made: Image, original: Image, mask: np.ndarray) -> float:
    error = np.square(made.astype(float) - original).mean(2)
    return float(10 * np.log10(255**2 * mask.sum() / (error * mask).sum()))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="quantface-mini-w4a4")
    parser.add_argument("--faces", type=int, default=16)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 48, 64, 96, 128])
    arguments = parser.parse_args()
    originals = load(SHARED / "faces" / "test")[:: max(1, 64 // arguments.faces)][: arguments.faces]
    detector, identity, upscaler = FaceDetector(detector_path()), Identity(), Upscaler(real_esrgan(), FACTOR)
    restorer, found = load_restorer(restorer_path(arguments.model), dtype=None), [detector(o)[0] for o in originals]
    print(describe_machine())
    rows = []
    for quality in (100, 75):
        for side in arguments.sides:
            scores = defaultdict[str, list[tuple[float, float]]](list)
            for original, face in zip(originals, found, strict=True):
                photo = reduced(original, side, quality)
                background = upscaler(photo, FACTOR)
                result = restore_photo(photo, restorer, [placed(face, side / len(original))], background=background)
                for way, made in zip(WAYS, (enlarged(photo, FACTOR), background, result.pixels), strict=True):
                    how = cv2.INTER_AREA if len(made) > len(original) else cv2.INTER_CUBIC
                    same, mask = (cv2.resize(x, original.shape[1::-1], interpolation=how) for x in (made, result.mask))
                    distance = float(identity([same], [original])[0])
                    scores[way].append((psnr_within(same, original, mask), distance))
            for way in WAYS:
                rows.append([str(side), str(quality) if quality < 100 else "none", way, *np.mean(scores[way], 0)])
    print(table(("side (pixels)", "JPEG", "face", "PSNR (dB)", "identity distance"), rows))


if __name__ == "__main__":
    main()
