"""What a step before the restorer gains: PSNR of faces restored with it and without."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
from do_no_harm import Face
from images import SHARED, load
from report import describe_machine, table

from quantface_core import RestoreOptions, load_restorer, restore_aligned, restorer_path
from quantface_core.faces.paste import face_mask
from quantface_core.restorer import Restorer
from quantface_core.types import Pixels

COLUMNS = ["input", "auto, as they are", "auto", "1, as they are", "1"]


def parser_of(description: str, faces: int) -> argparse.ArgumentParser:
    """A parser of the options that such comparisons share, with a default number of faces."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", nargs="+", default=["quantface-mini-w4a4"])
    parser.add_argument("--faces", type=int, default=faces)
    return parser


def compare(
    arguments: argparse.Namespace,
    damages: Mapping[str, Callable[[list[Face]], Iterable[tuple[Face, Face]]]],
    step: str,
    left_out: Callable[..., Any],
) -> None:
    """Print a table per model: a row for each damage, which gives (damaged, clean) faces; see `row`."""
    faces = load(SHARED / "faces" / "test")[: arguments.faces]
    print(f"{describe_machine()}; {len(faces)} faces")
    for name in arguments.models:
        restorer = load_restorer(restorer_path(name))
        rows: list[list[str | float]] = [
            [kind, *row(pairs(faces), restorer, step, left_out)] for kind, pairs in damages.items()
        ]
        print(f"\n{table([name, *COLUMNS], rows, 2)}", flush=True)


def row(pairs: Iterable[tuple[Face, Face]], restorer: Restorer, step: str, left_out: Callable[..., Any]) -> list[float]:
    """Mean PSNR of the columns over (damaged, clean) faces; `left_out` replaces the step, a name in quantface_core."""
    found = []
    for bad, clean in pairs:
        values = [psnr(bad, clean)]
        for strength in ("auto", 1.0):
            for without in (True, False):
                with patch(f"quantface_core.{step}", left_out) if without else nullcontext():
                    made = restore_aligned(bad, restorer, RestoreOptions(strength=strength)).pixels
                values.append(psnr(made, clean))
        found.append(values)
    return [float(value) for value in np.mean(found, axis=0)]


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB within the face."""
    difference = (a.astype(np.float32) - b)[face_mask(len(a)) > 0.5]
    return float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-9)))
