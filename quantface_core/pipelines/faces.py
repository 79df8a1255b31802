"""The aligned crops that a model is calibrated, measured and trained on, as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..bit_depth import to_8_bits
from ..bundled import bundled_faces
from ..degrade import degrade
from ..errors import ImageError, UsageError
from ..faces.align import extract, face_transform
from ..faces.aligned import aligned_face, as_batch
from ..faces.detect import FaceDetector
from ..faces.select import sort_faces
from ..io.models import detector_path
from ..io.photos import read_photo
from ..options import RestoreOptions
from ..train.trainer import images_drawn
from ..types import Pixels, TrainerConfig
from .callbacks import PipelineCallbacks
from .jobs import folder_images

_LEAST = 32  # pixels; a smaller face has too little detail to be of use
_MOST = 10_000  # faces for training, by default: all are in memory at once


@dataclass(frozen=True, eq=False)
class FaceSource:
    """Where faces come from. With neither images nor a folder: from the bundled portrait, degraded in many ways."""

    count: int  # faces at most
    pictures: Iterable[tuple[str, Pixels]] | None = None  # (its name in messages, RGB); read as needed
    folder: Path | None = None  # of images, in the order of their names; without any, those of its subfolders
    find_faces: bool = False  # the images are photos whose faces are detected; else each is one aligned crop
    degrade: bool = False  # they are clean: degrade them first, each with a seed of its own


def load_faces(source: FaceSource | Tensor, size: int, callbacks: PipelineCallbacks | None = None) -> Tensor:
    """Return the faces as [N, 3, size, size] float32 in [-1, 1]; a batch is returned unchanged.

    A folder's images that cannot be read are left out, and named. Raises UsageError, ImageError.
    """
    if isinstance(source, Tensor):
        return source
    if source.count < 1:
        raise UsageError(f"count: at least 1 face, got {source.count}")
    if source.pictures is None and source.folder is None:
        return bundled_faces(source.count, size)
    callbacks = callbacks or PipelineCallbacks()
    faces: list[NDArray[np.uint8]] = []
    for name, pixels in _pictures(source, callbacks):
        callbacks.check()
        faces += _found(pixels, size) if source.find_faces else [_aligned(name, pixels, size)]
        if len(faces) >= source.count:
            break
    if not faces:
        raise UsageError("no face was found in the images: give others, or images that are aligned crops")
    del faces[source.count :]
    if source.folder is not None:
        callbacks.notify(f"{source.folder}: {len(faces)} {'face' if len(faces) == 1 else 'faces'}")
    for seed, face in enumerate(faces if source.degrade else ()):
        faces[seed] = degrade(face, seed)
    return as_batch(faces)


def training_faces(trainer: TrainerConfig, validation: int) -> int:
    """How many faces a training run uses: those that its steps draw, and `validation` held out; at most 10,000."""
    return min(_MOST, images_drawn(trainer) + validation)


def read_aligned(path: Path, size: int) -> NDArray[np.uint8]:
    """Read a file that is one aligned crop, as [size, size, 3] uint8.

    Raises ImageError when it cannot be read or is not about square.
    """
    return aligned_face(str(path), read_photo(path).pixels, size)


def _pictures(source: FaceSource, callbacks: PipelineCallbacks) -> Iterator[tuple[str, Pixels]]:
    """Yield (name, RGB pixels) of each image, one at a time. Raises UsageError, ImageError."""
    if source.pictures is not None:
        yield from source.pictures
        return
    assert source.folder is not None
    if not source.folder.is_dir():
        raise UsageError(f"{source.folder}: no such folder")
    for path in folder_images(source.folder):
        try:
            pixels = read_photo(path).pixels
        except ImageError as error:
            callbacks.notify(f"warning: {error}: left out")
        else:
            yield str(path), pixels


def _aligned(name: str, pixels: Pixels, size: int) -> NDArray[np.uint8]:
    try:
        return aligned_face(name, pixels, size)
    except ImageError as error:
        raise ImageError(f"{error}: turn on find_faces for photos") from None


def _found(pixels: Pixels, size: int) -> list[NDArray[np.uint8]]:
    """Every face of a photo, from left to right, as an aligned crop [size, size, 3]."""
    pixels = to_8_bits(pixels)
    faces = sort_faces(FaceDetector(detector_path())(pixels), RestoreOptions(min_size=_LEAST))
    return [np.rint(extract(pixels, face_transform(face, size), size) * 255).astype(np.uint8) for face in faces]
