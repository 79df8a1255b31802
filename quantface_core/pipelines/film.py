"""Restore the faces of a film: followed through its shots, steadied, and put back into the same film.

What is done is kept in parts beside the result. A stopped run can be asked again to go on, and gives the same frames:
a part begins with a key frame, and what is done to its first frame depends on frames before it that are done again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import ImageError
from ..faces.appearance import appearance_descriptor
from ..faces.cuts import is_cut, thumb_of
from ..faces.detect import FaceDetector
from ..io.models import detector_path
from ..stages.film import DetectedFrame, FilmRestorer, RestoredFrame, first_needed, square_width
from ..types import Pixels
from .callbacks import PipelineCallbacks, Progress
from .film_report import FilmResult, build_result, record_of
from .film_request import FilmRequest, check_request, film_settings, open_sink, open_source
from .film_state import FilmState, FrameDetections

PART = 48
"""Frames that are lost at most when a run is stopped; each part begins with a key frame."""

_SEARCH_PIXELS = 1280 * 720  # at which a frame is searched for faces


def film_detector() -> FaceDetector:
    """The bundled detector, searching as many pixels as films have. Raises ModelError."""
    return FaceDetector(detector_path(), search_pixels=_SEARCH_PIXELS)


def restore_film(request: FilmRequest, callbacks: PipelineCallbacks | None = None) -> FilmResult:
    """Restore a film. Raises QuantFaceError, and what the callbacks raise.

    Whatever stops it, what is done is put together as a film that plays, and kept for `resume`.
    """
    callbacks = callbacks or PipelineCallbacks()
    check_request(request)
    return _Run(request, callbacks).run()


class _Run:
    def __init__(self, request: FilmRequest, callbacks: PipelineCallbacks) -> None:
        self._request, self._callbacks = request, callbacks
        self._records: list[dict[str, Any]] = []  # of the part that is being made
        self._detect = request.detector or film_detector()
        self._source = open_source(request)
        info = self._source.info
        self._begin = None if request.start is None else round((info.start + request.start) / info.time_base)
        self._end = None if request.end is None else round((info.start + request.end) / info.time_base)
        self._sink = open_sink(request, self._source)
        output = Path(os.path.abspath(request.output))  # the current folder has no name of its own
        folder = output.with_name(f"{output.name}.part")
        resumed = folder.exists()
        self._state = FilmState(folder, film_settings(request, self._source, self._sink), request.resume)
        try:
            if not resumed:
                self._try_out()
        except BaseException:
            self._state.remove()
            raise

    def run(self) -> FilmResult:
        source, state, sink = self._source, self._state, self._sink
        with closing(state):
            for note in (*source.info.notes, *sink.notes):
                self._callbacks.notify(f"{source.path}: {note}")
            try:
                with self._callbacks.cancellable(self._request.restorer):
                    self._work()
            except BaseException:
                self._keep()
                raise
            if not state.parts_done():
                state.remove()
                raise ImageError(f"{source.path}: no frame between --from and --to")
            sink.join(state)
            damaged = [f"{source.damaged} damaged pieces are left out"] if source.damaged else []
            result = build_result(self._request.output, source.info, sink, state, damaged)
            state.remove()
            return result

    def _work(self) -> None:
        state, sink, total = self._state, self._sink, self._expected()
        part = state.parts_done()
        first = part * PART
        restorer = FilmRestorer(
            self._request.restorer, self._request.options, self._request.smoothing, float(self._source.info.aspect)
        )
        for restored in restorer.restore(self._seen(first), first):
            if not self._records:
                sink.begin(state, part)
            self._records.append(record_of(restored))  # before the frame: one that is written has its time
            sink.add(restored)
            self._tell(restored, total)
            if len(self._records) == PART:
                self._close(part)
                part += 1
        if self._records:
            self._close(part)

    def _close(self, part: int) -> None:
        delay = self._sink.end(self._state, part)
        self._state.close_part(part, self._records, delay)
        self._records = []

    def _keep(self) -> None:
        """Put together what is done, so that it can be looked at; the part that is not whole too."""
        try:
            if self._sink.keep(self._state, self._records):
                self._callbacks.notify(f"{self._request.output} holds what is done; --resume goes on")
            elif not self._state.found_count:
                self._state.remove()
        except Exception as error:  # what stopped the run comes first
            self._callbacks.notify(f"what is done could not be put together: {error}")

    def _seen(self, first: int) -> Iterator[DetectedFrame]:
        """Every frame with its faces, those that are long done from memory."""
        needed = first_needed(first, self._request.smoothing)
        known, state = self._state.found_count, self._state
        begin, start, kept = self._begin, 0, []
        for index, found in enumerate(state.found()):
            if index < min(needed, known - 1):
                yield DetectedFrame(None, found.faces, found.appearances, found.cut)
                start = index + 1
            else:
                begin = found.pts if index == start else begin
                kept.append(found)
        thumb = None
        for index, frame in enumerate(self._frames(begin), start):
            pixels = None
            if index >= known - 1:
                pixels = self._square(frame.rgb())
                now = thumb_of(pixels)
            if index < known:
                found = kept[index - start]
                if found.pts != frame.pts:
                    raise ImageError(f"{self._source.path}: it has changed since the run was begun")
            else:
                assert pixels is not None
                found = self._found(frame.pts, pixels, thumb is not None and is_cut(thumb, now))
                state.add(found)
            thumb = now if pixels is not None else None
            yield DetectedFrame(frame if index >= needed else None, found.faces, found.appearances, found.cut)

    def _frames(self, begin: int | None) -> Iterator[Any]:
        for frame in self._source.frames(begin):
            if self._end is not None and frame.pts >= self._end:
                return
            yield frame

    def _found(self, pts: int, pixels: Pixels, cut: bool) -> FrameDetections:
        faces, appearances = [], []
        for face in self._detect(pixels):
            try:
                appearances.append(appearance_descriptor(pixels, face))
                faces.append(face)
            except ImageError:  # no face has landmarks like these
                continue
        return FrameDetections(pts, cut, tuple(faces), tuple(appearances))

    def _square(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        wide = square_width(width, float(self._source.info.aspect))
        return pixels if wide == width else cv2.resize(pixels, (wide, height), interpolation=cv2.INTER_LINEAR)

    def _expected(self) -> int:
        info, request = self._source.info, self._request
        last = info.frames if request.end is None else min(info.frames or 2**31, round(request.end * info.rate))
        return max(0, last - round((request.start or 0) * info.rate))

    def _tell(self, restored: RestoredFrame, total: int) -> None:
        done = restored.index + 1
        self._callbacks.progress(Progress("restore", done, max(done, total), "frame"))
        if self._callbacks.preview:
            pixels = restored.pixels
            self._callbacks.preview((pixels if pixels.dtype == np.uint8 else pixels >> 8).astype(np.uint8))

    def _try_out(self) -> None:
        """Write the first frame as the whole film will be: what its codec or container refuses shows now."""
        frame = next(self._frames(self._begin), None)
        if frame is None:
            raise ImageError(f"{self._source.path}: no frame between --from and --to")
        self._sink.try_out(self._state, frame)
