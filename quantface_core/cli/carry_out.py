"""Carry out one job: read a photo, restore its faces, write what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..io.atomic import atomic_path
from ..io.photos import check_size, read_photo, write_photo
from ..stages.restore import Restorer, in_words, restore_aligned, restore_photo
from ..types import Face, Pixels, RestoreOptions
from .jobs import Job

_COMPARE_PIXELS = 40_000_000  # both sides together; beyond, the comparison is shrunk: it is for looking


def carry_out(
    job: Job,
    restorer: Restorer,
    detector: Callable[[Pixels], Sequence[Face]] | None,
    options: RestoreOptions,
) -> dict[str, Any]:
    """Do one job; returns its entry of the report. Without a detector the photo is one aligned face.

    Raises QuantFaceError; nothing half-written is left.
    """
    photo = read_photo(job.source)
    height, width = photo.pixels.shape[:2]
    try:
        check_size(width * options.upscale, height * options.upscale)
    except ImageError as error:
        raise ImageError(f"{job.source}: enlarged, {error}") from None
    if detector is None:
        result = restore_aligned(photo.pixels, restorer, options)
    else:
        result = restore_photo(photo.pixels, restorer, detector(photo.pixels), options)
    warnings = []
    if not result.restored:
        reason = f"none of the {len(result.faces)} faces chosen" if result.faces else "no face found"
        warnings.append(f"{job.source}: {reason}; nothing was restored")
    same_format = job.source.suffix.lower() == job.target.suffix.lower()
    if not result.restored and options.upscale == 1 and same_format:
        _copy(job.source, job.target)
    else:
        write_photo(replace(photo, pixels=result.pixels, alpha=_fitted(photo.alpha, result.pixels)), job.target)
    if job.compare:
        write_photo(replace(photo, pixels=side_by_side(photo.pixels, result.pixels), alpha=None), job.compare)
    return {
        "output": str(job.target),
        "compare": str(job.compare) if job.compare else None,
        "size": [width, height],
        "faces": [face.to_dict() for face in result.faces],
        "restored": list(result.restored),
        "taken": [round(taken, 3) for taken in result.taken],
        "done": [in_words(taken) for taken in result.taken],
        "warnings": warnings,
    }


def _copy(source: Path, target: Path) -> None:
    """A photo nothing was done to keeps its very bytes."""
    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise ImageError(f"{target}: cannot write ({error.strerror})") from error


def _fitted(alpha: NDArray[Any] | None, pixels: Pixels) -> NDArray[Any] | None:
    if alpha is None or alpha.shape == pixels.shape[:2]:
        return alpha
    return cv2.resize(alpha, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def side_by_side(before: Pixels, after: Pixels) -> NDArray[Any]:
    """Before and after in one picture, at the size of after, with a thin white gap."""
    height, width = after.shape[:2]
    shrink = min(1.0, (_COMPARE_PIXELS / (2 * height * width)) ** 0.5)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    pair = [_resized(before, size), _resized(after, size)]
    gap = np.full((size[1], max(2, size[0] // 128), 3), np.iinfo(after.dtype).max, after.dtype)
    return np.concatenate([pair[0], gap, pair[1]], axis=1)


def _resized(pixels: Pixels, size: tuple[int, int]) -> NDArray[Any]:
    if pixels.shape[1::-1] == size:
        return pixels
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=interpolation)
