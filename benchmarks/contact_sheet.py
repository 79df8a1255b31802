"""Before and after of many faces in one image, to see what metrics miss.

    python benchmarks/contact_sheet.py docs/contact_sheet.jpg [--model quantface-mini-w4a4]
    python benchmarks/contact_sheet.py docs/faces.jpg --faces 9 21 14 11 --columns 2

The first 24 test faces, or those at the given positions, cycling through do_no_harm.py's levels: each as input,
restored face, original.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from do_no_harm import LEVELS, damaged
from images import SHARED, load
from PIL import Image

from quantface_core import load_restorer, restore_aligned, restorer_path
from quantface_core.types import DEFAULT_RESTORER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default=DEFAULT_RESTORER)
    parser.add_argument("--faces", type=int, nargs="+", default=range(24), help="positions of the test faces, from 0")
    parser.add_argument("--columns", type=int, default=4, help="faces in a row")
    arguments = parser.parse_args()
    restorer, levels = load_restorer(restorer_path(arguments.model), dtype=None), list(LEVELS.values())
    triples, faces = [], load(SHARED / "faces" / "test")
    for index in arguments.faces:
        face = faces[index]
        bad = damaged(face, levels[index % len(levels)], index)
        triples.append(np.concatenate([bad, restore_aligned(bad, restorer).pixels, face], 1))
    columns = arguments.columns
    rows = [np.concatenate(triples[i : i + columns], 1) for i in range(0, len(triples), columns)]
    Image.fromarray(np.concatenate(rows)).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
