"""The faces that calibrating, allocating and distilling look at: a folder's, as one batch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def add_faces(parser: argparse.ArgumentParser, count: int) -> None:
    """The options that name faces."""
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of aligned, degraded faces such as it will restore")
    add("--count", type=int, default=count, help=f"at most this many images ({count})")
    add("--degrade", action="store_true", help="the images are clean: degrade them first, with seeds")


def read_faces(folder: Path, count: int, size: int, degraded: bool) -> Tensor:
    """The first pictures of a folder as [N, 3, size, size] float32 in [-1, 1]. Raises UsageError, ImageError."""
    from ..degrade import degrade
    from ..faces.aligned import as_batch
    from .jobs import find_photos

    if count < 1:
        raise UsageError(f"--count is at least 1, got {count}")
    if not folder.is_dir():
        raise UsageError(f"--images {folder}: no such folder")
    faces: list[Any] = []
    for seed, path in enumerate(find_photos([str(folder)]).photos[:count]):
        pixels = read_square(path, size)
        faces.append(degrade(pixels, seed) if degraded else pixels)
    return as_batch(faces)


def read_square(path: Path, size: int) -> NDArray[np.uint8]:
    """One aligned face as [size, size, 3] uint8. Raises ImageError when it is not about square."""
    from ..faces.aligned import aligned_face
    from ..io.photos import read_photo

    return aligned_face(str(path), read_photo(path).pixels, size)
