"""Faded, dark and overexposed faces: what stretching their contrast for the restorer gains.

    python benchmarks/faded.py [--models quantface-mini-w4a4] [--faces N]

Clean test faces whose tones are compressed, then damaged by the levels of `do_no_harm.py`; PSNR to the undamaged face
in the same tones, within the face. "As they are" is the same code with `contrast_stretch` switched off.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from do_no_harm import LEVELS, Face, damaged
from images import SHARED, load
from report import describe_machine, table
from with_and_without import COLUMNS, row

from quantface_core import load_restorer, restorer_path
from quantface_core.faces.contrast import IDENTITY

TONES = {  # black and white become these levels of 255
    "ordinary": (0, 255),
    "slightly faded": (70, 198),
    "faded": (110, 186),
    "overexposed": (180, 254),
    "dark": (0, 64),
    "very dark": (0, 31),
}


def in_tones(face: Face, tones: tuple[int, int]) -> Face:
    """A face [S, S, 3] uint8 whose black and white become two levels of 255."""
    black, white = tones
    return np.rint(black + face.astype(np.float32) * (white - black) / 255).astype(np.uint8)


def damaged_in(faces: list[Face], tones: tuple[int, int], level: str) -> Iterator[tuple[Face, Face]]:
    """Each face in some tones, damaged by a level and undamaged."""
    for seed, face in enumerate(faces):
        clean = in_tones(face, tones)
        yield damaged(clean, LEVELS[level], seed), clean


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
            [
                f"{tone}, {level}",
                *row(damaged_in(faces, TONES[tone], level), restorer, "contrast_stretch", lambda _: IDENTITY),
            ]
            for level in arguments.levels
            for tone in TONES
        ]
        print(f"\n{table([name, *COLUMNS], rows, 2)}", flush=True)


if __name__ == "__main__":
    main()
