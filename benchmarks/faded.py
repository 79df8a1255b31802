"""Faded, dark and overexposed faces: what stretching their contrast for the restorer gains.

    python benchmarks/faded.py [--models quantface-mini-w4a4] [--faces N]

Clean test faces whose tones are compressed, then damaged by the levels of `do_no_harm.py`; PSNR to the undamaged face
in the same tones, within the face. "As they are" is the same code with `contrast_stretch` switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from do_no_harm import LEVELS, Face, damaged
from with_and_without import compare, parser_of

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
    parser = parser_of(__doc__.splitlines()[0], faces=32)
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=["medium"])
    arguments = parser.parse_args()
    damages = {
        f"{tone}, {level}": partial(damaged_in, tones=TONES[tone], level=level)
        for level in arguments.levels
        for tone in TONES
    }
    compare(arguments, damages, "stages.contrast.contrast_stretch", lambda _: IDENTITY)


if __name__ == "__main__":
    main()
