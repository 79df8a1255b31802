"""Restore one file: read it, restore the faces of each page or frame, write what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..io.atomic import atomic_path
from ..io.photos import Pages, Photo, check_size, read_pages, write_pages, write_photo
from ..restorer import Restorer
from ..stages.restore import describe_faces
from ..types import Face, Pixels, Restoration, RestoreOptions
from .callbacks import PipelineCallbacks
from .jobs import Job
from .restore_picture import PictureRequest, restore_picture

_COMPARE_PIXELS = 40_000_000  # both sides together; beyond, the comparison is shrunk: it is for looking


@dataclass(frozen=True, eq=False)
class FileRequest:
    """One file, and how its faces are found and restored."""

    job: Job
    restorer: Restorer
    detector: Callable[[Pixels], Sequence[Face]] | None  # None = every page is one aligned face
    options: RestoreOptions


@dataclass(frozen=True)
class PageReport:
    """What was found in one page or frame, and done."""

    faces: tuple[Face, ...]  # in the order that positions count
    restored: tuple[int, ...]  # positions of those that were chosen
    applied_strength: tuple[float, ...]  # of each one's change, 0 = left as it was, 1 = all
    done: tuple[str, ...]  # the same in words
    doubtful: tuple[Face, ...]  # the detector's that were too unsure to be counted

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "faces": [face.to_dict() for face in self.faces],
            "restored": list(self.restored),
            "taken": [round(strength, 3) for strength in self.applied_strength],
            "done": list(self.done),
            "doubtful": [face.to_dict() for face in self.doubtful],
        }


@dataclass(frozen=True)
class FileReport:
    """What became of one file."""

    output: Path | str  # a string where it is in a store: its URI
    compare: Path | str | None  # before and after side by side; None = not asked for
    size: tuple[int, int]  # pixels, width and height of the first page as it was
    pages: tuple[PageReport, ...]
    warnings: tuple[str, ...]  # a line each, with the file's name

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the first page's report, and where there are several all of them."""
        pages = [page.to_dict() for page in self.pages]
        return {
            "output": str(self.output),
            "compare": str(self.compare) if self.compare else None,
            "size": list(self.size),
            **pages[0],
            **({"pages": pages} if len(pages) > 1 else {}),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A file in memory."""

    pages: Pages
    faces: tuple[Sequence[Face] | None, ...]  # found in each page; None = the page is one aligned face


def restore_file(request: FileRequest, callbacks: PipelineCallbacks | None = None) -> FileReport:
    """Restore every page or frame of a file. Raises QuantFaceError; nothing half-written is left."""
    read = read_file(request.job, request.detector)
    return write_file(request, read, restore_pages(request, read, callbacks))


def read_file(job: Job, detector: Callable[[Pixels], Sequence[Face]] | None) -> ReadFile:
    """The first third of `restore_file`: read, and find the faces. Raises ImageError."""
    pages = read_pages(job.source)
    return ReadFile(pages, tuple(detector(photo.pixels) if detector else None for photo in pages.photos))


def restore_pages(
    request: FileRequest, read: ReadFile, callbacks: PipelineCallbacks | None = None
) -> tuple[Restoration, ...]:
    """The second third: all that the model does. Raises QuantFaceError."""
    found = zip(read.pages.photos, read.faces, strict=True)
    return tuple(_restored(request, photo, faces, callbacks) for photo, faces in found)


def write_file(request: FileRequest, read: ReadFile, results: Sequence[Restoration]) -> FileReport:
    """The last third: encode and write. Raises WriteError; nothing half-written is left."""
    job, options, pages = request.job, request.options, read.pages
    reports = []
    for result, faces in zip(results, read.faces, strict=True):
        doubtful = tuple(face for face in faces or () if face.score < options.min_confidence)
        reports.append(_report(result, doubtful, options.strength == "auto"))
    warnings = _nothing_done(results, sum(len(report.doubtful) for report in reports))
    same_format = job.source.suffix.lower() == job.target.suffix.lower()
    unchanged = all(np.array_equal(r.pixels, p.pixels) for r, p in zip(results, pages.photos, strict=True))
    if unchanged and same_format:
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
    height, width = pages.photos[0].pixels.shape[:2]
    named = tuple(f"{job.source}: {warning}" for warning in warnings)
    return FileReport(job.target, job.compare, (width, height), tuple(reports), named)


def _restored(
    request: FileRequest, photo: Photo, faces: Sequence[Face] | None, callbacks: PipelineCallbacks | None
) -> Restoration:
    (height, width), upscale = photo.pixels.shape[:2], request.options.upscale
    try:
        check_size(width * upscale, height * upscale)
    except ImageError as error:
        raise ImageError(f"{request.job.source}: enlarged, {error}") from None
    result = restore_picture(PictureRequest(photo.pixels, request.restorer, faces, request.options), callbacks)
    # A file may have many pages, and a page many faces: nothing here shows them by themselves.
    return replace(result, crops=(), restored_crops=(), blend_masks=())


def _report(result: Restoration, doubtful: tuple[Face, ...], automatic: bool) -> PageReport:
    words = tuple(describe_faces(result, automatic).values())
    return PageReport(result.faces, result.restored, result.applied_strength, words, doubtful)


def _nothing_done(results: Sequence[Restoration], doubtful: int) -> list[str]:
    """Why nothing was restored, where nothing was."""
    if any(result.restored for result in results):
        return []
    found = sum(len(result.faces) for result in results)
    reason = f"none of the {found} faces chosen" if found else "no face found"
    reason += f" ({doubtful} doubtful: a lower least confidence takes them)" if doubtful and not found else ""
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
