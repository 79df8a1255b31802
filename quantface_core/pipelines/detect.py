"""Find the faces in photos, and draw each photo with its faces numbered; no restorer is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..bit_depth import to_8_bits
from ..charts import draw_numbered, save_chart
from ..faces.detect import FaceDetector
from ..faces.select import sort_faces
from ..io.models import detector_path
from ..io.photos import read_photo
from ..options import RestoreOptions
from ..types import Face, Pixels
from .callbacks import PipelineCallbacks, StageProgress
from .jobs import Job
from .photo_errors import explain


@dataclass(frozen=True)
class DetectedPhoto:
    """The faces of a photo's first page, or an error."""

    job: Job
    faces: tuple[Face, ...] = ()  # in the order that positions count
    notes: tuple[str, ...] = ()  # what reading had to change or leave out, a line each
    error: str = ""  # one line with the photo's name; empty = none


def detect(
    jobs: Sequence[Job], options: RestoreOptions, callbacks: PipelineCallbacks | None = None
) -> Iterator[DetectedPhoto]:
    """Yield each photo's faces once its drawing is written, in order; a photo that fails is a result, too.

    Progress counts photos. Raises ModelError without the detector's file.
    """
    callbacks, detector = callbacks or PipelineCallbacks(), FaceDetector(detector_path())
    for number, job in enumerate(jobs):
        callbacks.progress(StageProgress("detect", number, len(jobs), "photo", job.source.name))
        try:
            yield _detected(job, options, detector)
        except Exception as error:  # decoders' and plugins' too: it is this photo's, and the rest continue
            yield DetectedPhoto(job, error=explain(job, error))
    callbacks.progress(StageProgress("detect", len(jobs), len(jobs), "photo"))


def _detected(job: Job, options: RestoreOptions, detector: Callable[[Pixels], Sequence[Face]]) -> DetectedPhoto:
    photo = read_photo(job.source)
    faces = sort_faces(detector(photo.pixels), options)
    save_chart(draw_numbered(to_8_bits(photo.pixels), faces, range(len(faces))), job.target)
    return DetectedPhoto(job, faces, photo.notes)


def described(photo: DetectedPhoto) -> list[str]:
    """A line for the photo, one for each of its notes and one for each of its faces; none where it failed."""
    if photo.error:
        return []
    count = f"{len(photo.faces)} face{'s' * (len(photo.faces) != 1)}" if photo.faces else "no face found"
    lines = [f"{photo.job.source}: {count}, see {photo.job.target}", *(f"  {note}" for note in photo.notes)]
    for position, face in enumerate(photo.faces):
        left, top = (round(value) for value in face.box[:2])
        lines.append(f"  {position}: {face.size:.0f} pixels at {left},{top}, confidence {face.score:.2f}")
    return lines
