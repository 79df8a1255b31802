"""Restore one file: read it, restore the faces of each page or frame, write the result."""

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
from ..io.photos import Pages, Photo, check_output, read_pages, write_pages, write_photo
from ..options import RestoreOptions
from ..restorer import Restorer
from ..restorer.upscaler import Upscaler
from ..stages.outcome import describe_change, is_unchanged
from ..types import Face, Pixels, Repair, Restoration
from .callbacks import PipelineCallbacks
from .jobs import Job
from .restore_picture import PictureRequest, restore_picture

_COMPARE_PIXELS = 40_000_000  # both sides together; larger comparisons, which are only for viewing, are shrunk


@dataclass(frozen=True, eq=False)
class FileRequest:
    """One file, and how its faces are found and restored."""

    job: Job
    restorer: Restorer
    detector: Callable[[Pixels], Sequence[Face]] | None  # None = every page is one aligned crop
    options: RestoreOptions
    upscaler: Upscaler | None = None  # enlarges what is around the faces; None = Lanczos
    repair: Callable[[Pixels], Repair] | None = None  # of scratches, before all else; None = they stay


@dataclass(frozen=True)
class FaceReport:
    """What was done to one face that was chosen."""

    position: int  # in `PageReport.faces`
    applied_strength: float  # mean share of its change that was applied: 0 = unchanged, 1 = replaced in full
    outcome: str  # the same in words
    is_unchanged: bool  # whether it looks as it did


@dataclass(frozen=True)
class PageReport:
    """What was found and done in one page or frame."""

    faces: tuple[Face, ...]  # in the order that positions count
    restored: tuple[FaceReport, ...]  # those chosen
    doubtful: tuple[Face, ...]  # detected below the least confidence, and not counted
    repaired: float | None = None  # share of it that was inpainted where scratches were; None = not looked for

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "faces": [face.to_dict() for face in self.faces],
            "restored": [face.position for face in self.restored],
            "taken": [round(face.applied_strength, 3) for face in self.restored],
            "done": [face.outcome for face in self.restored],
            "doubtful": [face.to_dict() for face in self.doubtful],
            **({} if self.repaired is None else {"repaired": round(self.repaired, 4)}),
        }


@dataclass(frozen=True)
class FileReport:
    """The outcome of one file."""

    output: Path | str  # a string, its URI, where it is in a store
    compare: Path | str | None  # before and after side by side; None = not asked for
    size: tuple[int, int]  # pixels, width and height of the first page before restoring
    pages: tuple[PageReport, ...]
    warnings: tuple[str, ...]  # a line each, with the file's name

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the first page's report, and where there are several, all of them."""
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
    """A decoded file, its scratches repaired if that was asked, and the faces found in it."""

    pages: Pages
    repairs: tuple[Repair | None, ...]  # of each page; None = not asked
    faces: tuple[Sequence[Face] | None, ...]  # of each page; None = the page is one aligned crop


@dataclass(frozen=True, eq=False)
class RestoredPage:
    """One page or frame, restored. Without its faces' crops: a file may have many pages, and a page many faces."""

    pixels: Pixels
    report: PageReport


def restore_file(request: FileRequest, callbacks: PipelineCallbacks | None = None) -> FileReport:
    """Restore every page or frame of a file. Raises QuantFaceError; nothing half-written is left."""
    read = read_file(request)
    return write_file(request, read, restore_pages(request, read, callbacks))


def read_file(request: FileRequest) -> ReadFile:
    """The first step of `restore_file`: read it, repair it, and find the faces. Raises ImageError, ModelError."""
    pages, detector = read_pages(request.job.source), request.detector
    repairs = tuple(request.repair(photo.pixels) if request.repair else None for photo in pages.photos)
    whole = (repair.pixels if repair else photo.pixels for photo, repair in zip(pages.photos, repairs, strict=True))
    return ReadFile(pages, repairs, tuple(detector(pixels) if detector else None for pixels in whole))


def restore_pages(
    request: FileRequest, read: ReadFile, callbacks: PipelineCallbacks | None = None
) -> tuple[RestoredPage, ...]:
    """The second step: run the model. Raises QuantFaceError, before it runs where the result could not be written."""
    _check_sizes(request, read.pages)
    found = zip(read.pages.photos, read.repairs, read.faces, strict=True)
    return tuple(_restored(request, photo.pixels, repair, faces, callbacks) for photo, repair, faces in found)


def write_file(request: FileRequest, read: ReadFile, restored: Sequence[RestoredPage]) -> FileReport:
    """The last step: encode and write. Raises ImageError, WriteError; nothing half-written is left."""
    job, pages = request.job, read.pages
    reports = tuple(page.report for page in restored)
    warnings = _nothing_done(reports)
    same_format = job.source.suffix.lower() == job.target.suffix.lower()
    unchanged = all(np.array_equal(r.pixels, p.pixels) for r, p in zip(restored, pages.photos, strict=True))
    if unchanged and same_format:
        _copy(job.source, job.target)
    else:
        done = tuple(photo.with_pixels(page.pixels) for photo, page in zip(pages.photos, restored, strict=True))
        warnings += dict.fromkeys(note for photo in pages.photos for note in photo.notes)
        warnings += write_pages(replace(pages, photos=done), job.target)
    if job.compare:
        before = pages.photos[0]
        after = side_by_side(before.pixels, restored[0].pixels)
        write_photo(Photo(after, gray=before.gray, icc=before.icc), job.compare)
    named = tuple(f"{job.source}: {warning}" for warning in warnings)
    return FileReport(job.target, job.compare, pages.photos[0].size, reports, named)


def _check_sizes(request: FileRequest, pages: Pages) -> None:
    upscale = request.options.upscale
    sizes = [(photo.size[0] * upscale, photo.size[1] * upscale) for photo in pages.photos]
    try:
        check_output(sizes, bool(pages.durations), request.job.target.suffix)
    except ImageError as error:
        enlarged = "enlarged, " if upscale > 1 else ""
        raise ImageError(f"{request.job.source}: {enlarged}{error}") from None


def _restored(
    request: FileRequest,
    pixels: Pixels,
    repair: Repair | None,
    faces: Sequence[Face] | None,
    callbacks: PipelineCallbacks | None,
) -> RestoredPage:
    options, background = request.options, None
    pixels = repair.pixels if repair else pixels
    if request.upscaler and options.upscale > 1:
        callbacks = callbacks or PipelineCallbacks()
        with callbacks.cancellable(request.upscaler):
            background = request.upscaler(pixels, options.upscale, callbacks.stage("enlarge", "tile"))
        options = replace(options, upscale=1)
    picture = PictureRequest(pixels, request.restorer, faces, options, background, keep_crops=False)
    result = restore_picture(picture, callbacks)
    report = _report(result, faces or (), request.options)
    return RestoredPage(result.pixels, replace(report, repaired=repair.share if repair else None))


def _report(result: Restoration, found: Sequence[Face], options: RestoreOptions) -> PageReport:
    reports = []
    for face in result.restored:
        strength, removed = face.applied_strength, face.removed_artifacts
        outcome = describe_change(strength, options.strength == "auto", removed)
        reports.append(FaceReport(face.position, strength, outcome, is_unchanged(strength, removed)))
    doubtful = tuple(face for face in found if face.score < options.min_confidence)
    return PageReport(result.faces, tuple(reports), doubtful)


def _nothing_done(pages: Sequence[PageReport]) -> list[str]:
    """A line saying why no face was restored; empty where one was."""
    if any(page.restored for page in pages):
        return []
    found, doubtful = sum(len(page.faces) for page in pages), sum(len(page.doubtful) for page in pages)
    reason = f"none of the {found} faces chosen" if found else "no face found"
    reason += f" ({doubtful} doubtful: lower the least confidence to restore them)" if doubtful and not found else ""
    done = "only scratches were repaired" if any(page.repaired for page in pages) else "nothing was restored"
    return [f"{reason}; {done}"]


def _copy(source: Path, target: Path) -> None:
    """Copy a photo that was not changed byte for byte."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def side_by_side(before: Pixels, after: Pixels) -> NDArray[Any]:
    """Before and after in one image [H, W, 3] with a thin white gap, at the size of `after`, shrunk if that is huge."""
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
