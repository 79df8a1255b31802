"""Carry out one job: read a file, restore its faces, write what came of it."""

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
from ..io.photos import Photo, check_size, read_pages, write_pages, write_photo
from ..stages.restore import Restorer, in_words, restore_aligned, restore_photo
from ..types import Face, Pixels, Restoration, RestoreOptions
from .jobs import Job

_COMPARE_PIXELS = 40_000_000  # both sides together; beyond, the comparison is shrunk: it is for looking


def carry_out(
    job: Job,
    restorer: Restorer,
    detector: Callable[[Pixels], Sequence[Face]] | None,
    options: RestoreOptions,
) -> dict[str, Any]:
    """Do one job, every page or frame of it; returns its entry of the report. Without a detector all are aligned faces.

    Raises QuantFaceError; nothing half-written is left.
    """
    pages = read_pages(job.source)
    results, doubtful = [], []
    for photo in pages.photos:
        faces = detector(photo.pixels) if detector else None
        results.append(_restored(job, photo, restorer, faces, options))
        doubtful.append([face for face in faces or () if face.score < options.min_confidence])
    warnings = _nothing_done(results, sum(map(len, doubtful)))
    reports = [
        {**_report(result, options.strength == "auto"), "doubtful": [face.to_dict() for face in left]}
        for result, left in zip(results, doubtful, strict=True)
    ]
    same_format = job.source.suffix.lower() == job.target.suffix.lower()
    if not any(result.restored for result in results) and options.upscale == 1 and same_format:
        _copy(job.source, job.target)
    else:
        done = tuple(
            replace(photo, pixels=result.pixels, alpha=_fitted(photo.alpha, result.pixels))
            for photo, result in zip(pages.photos, results, strict=True)
        )
        warnings += dict.fromkeys(note for photo in pages.photos for note in photo.notes)
        warnings += write_pages(replace(pages, photos=done), job.target)
    if job.compare:
        before = pages.photos[0]
        after = side_by_side(before.pixels, results[0].pixels)
        write_photo(Photo(after, gray=before.gray, icc=before.icc), job.compare)
    first = pages.photos[0].pixels
    return {
        "output": str(job.target),
        "compare": str(job.compare) if job.compare else None,
        "size": [first.shape[1], first.shape[0]],
        **reports[0],
        **({"pages": reports} if len(reports) > 1 else {}),
        "warnings": [f"{job.source}: {warning}" for warning in warnings],
    }


def _restored(
    job: Job,
    photo: Photo,
    restorer: Restorer,
    faces: Sequence[Face] | None,
    options: RestoreOptions,
) -> Restoration:
    height, width = photo.pixels.shape[:2]
    try:
        check_size(width * options.upscale, height * options.upscale)
    except ImageError as error:
        raise ImageError(f"{job.source}: enlarged, {error}") from None
    if faces is None:
        return restore_aligned(photo.pixels, restorer, options)
    return restore_photo(photo.pixels, restorer, faces, options)


def _report(result: Restoration, automatic: bool) -> dict[str, Any]:
    return {
        "faces": [face.to_dict() for face in result.faces],
        "restored": list(result.restored),
        "taken": [round(taken, 3) for taken in result.taken],
        "done": [in_words(t, automatic, d) for t, d in zip(result.taken, result.denoised, strict=True)],
    }


def _nothing_done(results: Sequence[Restoration], doubtful: int) -> list[str]:
    """Why nothing was restored, where nothing was."""
    if any(result.restored for result in results):
        return []
    found = sum(len(result.faces) for result in results)
    reason = f"none of the {found} faces chosen" if found else "no face found"
    reason += f" ({doubtful} doubtful: a lower --min-confidence takes them)" if doubtful and not found else ""
    return [f"{reason}; nothing was restored"]


def _copy(source: Path, target: Path) -> None:
    """A photo nothing was done to keeps its very bytes."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


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
