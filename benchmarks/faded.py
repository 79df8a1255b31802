"""Faded, dark and overexposed faces: what stretching their contrast for the restorer gains.

    python benchmarks/faded.py [--models quantface-mini-w4a4] [--faces N]

Clean test faces whose tones are compressed, then damaged by the levels of `do_no_harm.py`; PSNR to the undamaged face
in the same tones, within the face. "As they are" is the same code with `contrast_stretch` switched off.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from do_no_harm import LEVELS, Face, damaged
from images import SHARED, load
from report import describe_machine, table

from quantface_core import RestoreOptions, load_restorer, restore_aligned, restorer_path
from quantface_core.faces.contrast import IDENTITY
from quantface_core.faces.paste import face_mask
from quantface_core.restorer import Restorer
from quantface_core.types import Pixels

TONES = {  # black and white become these levels of 255
    "ordinary": (0, 255),
    "slightly faded": (70, 198),
    "faded": (110, 186),
    "overexposed": (180, 254),
    "dark": (0, 64),
    "very dark": (0, 31),
}
COLUMNS = ["input", "auto, as they are", "auto", "1, as they are", "1"]


@contextmanager
def as_they_are(off: bool) -> Iterator[None]:
    """Context manager: with `off`, no face is stretched for the restorer."""
    if not off:
        yield
        return
    with patch("quantface_core.stages.restore.contrast_stretch", lambda _: IDENTITY):
        yield


def in_tones(face: Face, tones: tuple[int, int]) -> Face:
    """A face [S, S, 3] uint8 whose black and white become two levels of 255."""
    black, white = tones
    return np.rint(black + face.astype(np.float32) * (white - black) / 255).astype(np.uint8)


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB within the face."""
    difference = (a.astype(np.float32) - b)[face_mask(len(a)) > 0.5]
    return float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-9)))


def row(faces: list[Face], tones: tuple[int, int], level: str, restorer: Restorer) -> list[float]:
    """Mean PSNR of the columns."""
    found = []
    for seed, face in enumerate(faces):
        clean = in_tones(face, tones)
        bad = damaged(clean, LEVELS[level], seed)
        values = [psnr(bad, clean)]
        for strength in ("auto", 1.0):
            for off in (True, False):
                with as_they_are(off):
                    made = restore_aligned(bad, restorer, RestoreOptions(strength=strength)).pixels
                values.append(psnr(made, clean))
        found.append(values)
    return [float(value) for value in np.mean(found, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["quantface-mini-w4a4"])
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=["medium"])
    parser.add_argument("--faces", type=int, default=32)
    arguments = parser.parse_args()
    faces = load(SHARED / "faces" / "test")[: arguments.faces]
    print(f"{describe_machine()}; {len(faces)} faces")
    for name in arguments.models:
        restorer = load_restorer(restorer_path(name))
        rows: list[list[str | float]] = [
            [f"{tone}, {level}", *row(faces, TONES[tone], level, restorer)]
            for level in arguments.levels
            for tone in TONES
        ]
        print(f"\n{table([name, *COLUMNS], rows, 2)}", flush=True)


if __name__ == "__main__":
    main()
