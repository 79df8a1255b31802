"""The options that name the faces used for calibration, allocation and distillation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..pipelines.faces import FaceSource


def add_faces(parser: argparse.ArgumentParser, count: int | None, required: bool = True) -> None:
    """The options that `face_source` reads; a count of None is for the command to replace."""
    add = parser.add_argument
    add("--images", type=Path, required=required, help="folder of aligned, degraded faces, like those to restore")
    add("--count", type=int, default=count, help=f"at most this many images ({count or 'what the steps see'})")
    add("--find-faces", action="store_true", help="the images are photos: find and align every face in them")
    add("--degrade", action="store_true", help="the images are clean: degrade them first, with fixed seeds")


def face_source(arguments: argparse.Namespace) -> FaceSource:
    """Raises UsageError."""
    from ..pipelines.faces import FaceSource

    if arguments.count < 1:
        raise UsageError(f"--count is at least 1, got {arguments.count}")
    if arguments.images is None:
        raise UsageError("--images: name a folder of faces")
    if not arguments.images.is_dir():
        raise UsageError(f"--images {arguments.images}: no such folder")
    return FaceSource(
        arguments.count, folder=arguments.images, find_faces=arguments.find_faces, degrade=arguments.degrade
    )
