"""Restore the faces of a film: tracked through its shots, temporally smoothed, and put back into the same film.

Finished work is kept in parts beside the result. A stopped run can be resumed and gives the same frames: a part begins
with a key frame, and the earlier frames that its first frame depends on are processed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import cv2

from ..bit_depth import to_8_bits
from ..errors import ImageError
from ..faces.appearance import appearance_descriptor
from ..faces.clean_network import bundled_cleaner
from ..faces.cuts import is_cut, thumb_of
from ..faces.detect import FaceDetector
from ..io.models import detector_path
from ..stages.film import FilmRestorer, first_needed, square_width
from ..stages.frames import DetectedFrame, RestoredFrame
from ..types import Pixels
from .callbacks import PipelineCallbacks, StageProgress
from .film_report import FilmResult, build_result, record_of
from .film_request import FilmRequest, check_request, film_settings, open_sink, open_source
from .film_state import FilmState, FrameDetections, state_folder
from .models import Execution, load_for

PART = 48
"""Frames per part, the most that a stopped run loses; each part begins with a key frame."""

_SEARCH_PIXELS = 1280 * 720  # resolution at which a frame is searched for faces


def film_detector() -> FaceDetector:
    """The bundled detector, searching at a film's resolution. Raises ModelError."""
    return FaceDetector(detector_path(), search_pixels=_SEARCH_PIXELS)


def restore_film(request: FilmRequest, callbacks: PipelineCallbacks | None = None) -> FilmResult:
    """Restore a film. Raises QuantFaceError, and what the callbacks raise.

    Whatever stops it, the finished frames are joined into a film that plays, and the state is kept for `resume`.
    """
    callbacks = callbacks or PipelineCallbacks()
    check_request(request)
    return _Run(request, callbacks).run()


class _Run:
    """One start of a film's restoration: with its source and sink open, its model loaded and its state held."""

    def __init__(self, request: FilmRequest, callbacks: PipelineCallbacks) -> None:
        self._request, self._callbacks = request, callbacks
        self._records: list[dict[str, Any]] = []  # of the current part
        self._detect = request.detector or film_detector()
        self._source = open_source(request)
        info = self._source.info
        self._begin = None if request.start is None else round((info.start + request.start) / info.time_base)
        self._end = None if request.end is None else round((info.start + request.end) / info.time_base)
        self._sink = open_sink(request, self._source)
        execution = request.execution
        self._restorer = load_for(execution) if isinstance(execution, Execution) else execution
        settings = film_settings(request, self._restorer, self._source, self._sink)
        self._state = FilmState(state_folder(request.output), settings, request.resume)
        try:
            if self._state.is_new:
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
                with self._callbacks.cancellable(self._restorer, bundled_cleaner()):
                    self._work()
            except BaseException:
                self._write_partial()
                raise
            if not state.parts_done():
                state.remove()
                raise ImageError(f"{source.path}: no frame between start and end")
            self._join()
            damaged = [f"{source.damaged} damaged packets are left out"] if source.damaged else []
            result = build_result(self._request.output, source.info, sink, state, damaged)
            state.remove()
            return result

    def _work(self) -> None:
        state, sink, total = self._state, self._sink, self._expected()
        part = state.parts_done()
        first = part * PART
        options, smoothing = self._request.options, self._request.smoothing
        restorer = FilmRestorer(self._restorer, options, smoothing, float(self._source.info.aspect))
        for restored in restorer.restore(self._detected(first), first):
            if not self._records:
                sink.begin(state, part)
            self._records.append(record_of(restored))  # before the frame, so that a written one has its time
            sink.add(restored)
            self._report(restored, total)
            if len(self._records) == PART:
                self._close(part)
                part += 1
        if self._records:
            self._close(part)

    def _close(self, part: int) -> None:
        delay = self._sink.end(self._state, part)
        self._state.close_part(part, self._records, delay)
        self._records = []

    def _join(self) -> None:
        """Make the result; where that fails, such as on a full disk, all frames are kept."""
        try:
            self._sink.join(self._state)
        except BaseException:
            self._callbacks.notify(f"{self._state.folder} holds all frames; continue with resume to join them")
            raise

    def _write_partial(self) -> None:
        """Join what is done so far, the unfinished part included, so that it can be viewed."""
        try:
            if self._sink.write_partial(self._state, self._records):
                self._callbacks.notify(f"{self._request.output} holds what is done so far; continue with resume")
            elif not self._state.frames_detected:
                self._state.remove()
        except Exception as error:  # the error that stopped the run takes precedence
            kept = f"{self._state.folder} holds what is done so far; continue with resume"
            self._callbacks.notify(f"{kept}. It could not be joined: {error}")

    def _detected(self, first: int) -> Iterator[DetectedFrame]:
        """Yield every frame with its faces; finished ones no longer needed come without pixels, from the state."""
        needed = first_needed(first, self._request.smoothing)
        known, state = self._state.frames_detected, self._state
        begin, start, kept = self._begin, 0, []
        for index, found in enumerate(state.detections()):
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
                    raise ImageError(f"{self._source.path}: it has changed since the run began")
            else:
                assert pixels is not None
                found = self._search(frame.pts, pixels, thumb is not None and is_cut(thumb, now))
                state.append(found)
            thumb = now if pixels is not None else None
            yield DetectedFrame(frame if index >= needed else None, found.faces, found.appearances, found.cut)

    def _frames(self, begin: int | None) -> Iterator[Any]:
        for frame in self._source.frames(begin):
            if self._end is not None and frame.pts >= self._end:
                return
            yield frame

    def _search(self, pts: int, pixels: Pixels, cut: bool) -> FrameDetections:
        faces, appearances = [], []
        for face in self._detect(pixels):
            try:
                appearances.append(appearance_descriptor(pixels, face))
                faces.append(face)
            except ImageError:  # not the landmarks of a face
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

    def _report(self, restored: RestoredFrame, total: int) -> None:
        done = restored.index + 1
        self._callbacks.progress(StageProgress("restore", done, max(done, total), "frame"))
        if self._callbacks.preview:
            self._callbacks.preview(to_8_bits(restored.pixels))

    def _try_out(self) -> None:
        """Write the first frame as the whole film will be: what its codec or container cannot hold shows now."""
        frame = next(self._frames(self._begin), None)
        if frame is None:
            raise ImageError(f"{self._source.path}: no frame between start and end")
        self._sink.try_out(self._state, frame)
