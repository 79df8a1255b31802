"""The state of an unfinished film, kept beside its result so that a stopped run can resume.

A folder with the settings, the detections in every frame so far (one line per frame, so that they are not computed
again), and the finished parts. A part is complete or absent.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..faces.appearance import Appearance
from ..io.atomic import write_text, writing
from ..io.process_lock import only_process
from ..types import Face

_SETTINGS, _FOUND, _LOCK = "settings.json", "found.jsonl", ".lock"


@dataclass(frozen=True)
class FrameDetections:
    """What was detected in one frame."""

    pts: int  # in the film's time base
    cut: bool  # a shot begins here
    faces: tuple[Face, ...]
    appearances: tuple[Appearance, ...]

    def to_line(self) -> str:
        """Serialise to one line of JSON, losslessly."""
        faces = [
            [
                *face.box,
                *(v for point in face.landmarks for v in point),
                face.score,
                base64.b64encode(appearance.tobytes()).decode(),
            ]
            for face, appearance in zip(self.faces, self.appearances, strict=True)
        ]
        return json.dumps([self.pts, int(self.cut), faces], separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> FrameDetections:
        """Parse what `to_line` returns. Raises ValueError, TypeError or LookupError for any other line."""
        pts, cut, rows = json.loads(line)
        faces, appearances = [], []
        for row in rows:
            points = tuple((row[i], row[i + 1]) for i in range(4, len(row) - 2, 2))
            faces.append(Face((row[0], row[1], row[2], row[3]), points, row[-2]))
            appearances.append(np.frombuffer(base64.b64decode(row[-1]), np.uint8).reshape(8, 8, 3))
        return cls(pts, bool(cut), tuple(faces), tuple(appearances))


def state_folder(output: Path) -> Path:
    """Where the state of an unfinished film is kept: beside its result."""
    output = Path(os.path.abspath(output))  # "." has no name
    return output.with_name(f"{output.name}.part")


def check_resumable(output: Path) -> None:
    """Raise UsageError where a result is there and no stopped run: it is finished, or was not made by a run."""
    made = any(output.iterdir()) if output.is_dir() else output.exists()
    if made and not state_folder(output).exists():
        raise UsageError(f"{output} is there already, and no stopped run to continue: without resume, it is made again")


class FilmState:
    """The state folder. Raises WriteError when it cannot be written.

    One process holds it exclusively, until it closes it or ends.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
        """Create the folder, or with `resume` continue in it. A start that fails leaves no new folder.

        Raises UsageError when another process holds it, or when it holds an unfinished run and `resume` is off, or one
        with other settings.
        """
        self.folder = folder
        wanted = json.loads(json.dumps(settings))
        refusal = f"{folder}: another process is working on this film: wait for it, or choose another output"
        with writing(folder), _created(folder) as self.is_new, ExitStack() as stack:
            # First: a run in progress must not be taken for an unfinished one, which may be deleted.
            stack.enter_context(only_process(folder / _LOCK, refusal))
            if self.is_new:
                self._write_settings(wanted)
            elif resume:
                self._check_settings(wanted)
            else:
                raise UsageError(f"{folder} holds an unfinished run: continue it with resume, or delete it")
            for left in folder.glob(".quantface-*"):  # from a killed process
                left.unlink()
            self.frames_detected = self._mend()
            self._file = stack.enter_context((folder / _FOUND).open("a", encoding="utf-8"))
            self._open = stack.pop_all()

    def _write_settings(self, wanted: Mapping[str, Any]) -> None:
        write_text(self.folder / _SETTINGS, json.dumps(wanted, indent=1))

    def _check_settings(self, wanted: Mapping[str, Any]) -> None:
        try:
            kept = dict(json.loads((self.folder / _SETTINGS).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            raise UsageError(f"{self.folder} is not the state of a film: delete it, or name another output") from None
        other = [name for name in sorted({*kept, *wanted}) if kept.get(name) != wanted.get(name)]
        if other:
            raise UsageError(f"{self.folder} was begun with another {', '.join(other)}: use the same, or delete it")

    def _mend(self) -> int:
        """Cut off a line that a killed process left half-written; return the number of lines."""
        path, count, whole = self.folder / _FOUND, 0, 0
        path.touch()
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                count, whole = count + 1, whole + len(line)
        os.truncate(path, whole)
        return count

    def detections(self) -> Iterator[FrameDetections]:
        """Yield the detections of the frames so far, in order. Raises UsageError when they cannot be read."""
        self._file.flush()
        with (self.folder / _FOUND).open(encoding="utf-8") as file:
            for line, _ in zip(file, range(self.frames_detected), strict=False):
                try:
                    found = FrameDetections.parse(line)
                except (ValueError, TypeError, LookupError):
                    raise UsageError(f"{self.folder} is damaged: delete it to start over") from None
                yield found

    def append(self, found: FrameDetections) -> None:
        """Store the detections of the next frame."""
        with writing(self.folder):
            self._file.write(found.to_line() + "\n")
            self._file.flush()
        self.frames_detected += 1

    def part(self, number: int, suffix: str) -> Path:
        """The path of a part's film or, with the suffix .json, of its record."""
        return self.folder / f"{number:06d}{suffix}"

    def parts_done(self) -> int:
        """The number of finished parts, from the first on."""
        number = 0
        while self.part(number, ".json").exists():
            number += 1
        return number

    def close_part(self, number: int, records: Sequence[Mapping[str, Any]], delay: int) -> None:
        """Mark a part as finished, once its frames are written."""
        record = {"delay": delay, "frames": list(records)}
        write_text(self.part(number, ".json"), json.dumps(record, separators=(",", ":")))

    def read_part(self, number: int) -> dict[str, Any]:
        """The record that `close_part` wrote: delay and frames."""
        record: dict[str, Any] = json.loads(self.part(number, ".json").read_text("utf-8"))
        return record

    def close(self) -> None:
        """Close the file of detections and let other processes in."""
        with suppress(OSError):  # on a full disk: detections that were not stored are computed again
            self._open.close()

    def remove(self) -> None:
        """Close and delete the folder."""
        self.close()
        with writing(self.folder):
            shutil.rmtree(self.folder)


@contextmanager
def _created(folder: Path) -> Iterator[bool]:
    """Create a folder; yields whether it is new. A new one is removed when the context raises."""
    try:
        folder.mkdir(parents=True)
        is_new = True
    except FileExistsError:
        is_new = False
    try:
        yield is_new
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
