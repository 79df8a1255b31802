"""What a film's restoring keeps beside its result until it is finished, so that it can go on where it was stopped.

A folder: the settings, what was found in every frame so far, and the parts that are done. A part is whole or not
there; what was found is a line a frame, so that the work done for it is not done again.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..faces.appearance import Appearance
from ..io.atomic import atomic_path, writing
from ..io.process_lock import only_process
from ..types import Face

_SETTINGS, _FOUND, _LOCK = "settings.json", "found.jsonl", ".lock"


@dataclass(frozen=True)
class FrameDetections:
    """What was found in one frame."""

    pts: int
    cut: bool  # a shot begins here
    faces: tuple[Face, ...]
    appearances: tuple[Appearance, ...]

    def to_line(self) -> str:
        """JSON without loss: what is read again is what was written."""
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
        pts, cut, rows = json.loads(line)
        faces, appearances = [], []
        for row in rows:
            points = tuple((row[i], row[i + 1]) for i in range(4, len(row) - 2, 2))
            faces.append(Face((row[0], row[1], row[2], row[3]), points, row[-2]))
            appearances.append(np.frombuffer(base64.b64decode(row[-1]), np.uint8).reshape(8, 8, 3))
        return cls(pts, bool(cut), tuple(faces), tuple(appearances))


class FilmState:
    """The folder. Raises WriteError where it cannot be written.

    One process at a time works with it, until it closes it or ends.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
        """Begin, or go on with `resume`. Raises UsageError when what is there does not fit what is asked,
        or is in another's hands.
        """
        self.folder = folder
        wanted = json.loads(json.dumps(settings))
        if folder.exists():
            if not resume:
                raise UsageError(f"{folder} holds an unfinished run: --resume goes on with it; or delete it")
            self._check(wanted)
        else:
            with writing(self.folder):
                folder.mkdir(parents=True)
            with atomic_path(folder / _SETTINGS) as temporary:
                temporary.write_text(json.dumps(wanted, indent=1), "utf-8")
        refusal = f"{folder}: another process works on this film: wait for it, or choose another output"
        with writing(folder), ExitStack() as stack:
            stack.enter_context(only_process(folder / _LOCK, refusal))
            for left in folder.glob(".quantface-*"):  # of a killed process
                left.unlink()
            self.found_count = self._mend()
            self._file = stack.enter_context((folder / _FOUND).open("a", encoding="utf-8"))
            self._open = stack.pop_all()

    def _check(self, wanted: Mapping[str, Any]) -> None:
        try:
            kept = dict(json.loads((self.folder / _SETTINGS).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            raise UsageError(f"{self.folder} is not the state of a film: delete it, or name another output") from None
        other = [name for name in sorted({*kept, *wanted}) if kept.get(name) != wanted.get(name)]
        if other:
            raise UsageError(f"{self.folder} was begun with another {', '.join(other)}: ask for the same, or delete it")

    def _mend(self) -> int:
        """Cut off a line that a killed process left half-written; the number of lines."""
        path, count, whole = self.folder / _FOUND, 0, 0
        path.touch()
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                count, whole = count + 1, whole + len(line)
        os.truncate(path, whole)
        return count

    def found(self) -> Iterator[FrameDetections]:
        """What was found in the frames so far, in order. Raises UsageError where it cannot be read."""
        self._file.flush()
        with (self.folder / _FOUND).open(encoding="utf-8") as file:
            for line, _ in zip(file, range(self.found_count), strict=False):
                try:
                    found = FrameDetections.parse(line)
                except (ValueError, TypeError, LookupError):
                    raise UsageError(f"{self.folder} is damaged: delete it to begin anew") from None
                yield found

    def add(self, found: FrameDetections) -> None:
        """Keep what was found in the next frame."""
        with writing(self.folder):
            self._file.write(found.to_line() + "\n")
            self._file.flush()
        self.found_count += 1

    def part(self, number: int, suffix: str) -> Path:
        """Where a part of the film, or what is told of it, lies."""
        return self.folder / f"{number:06d}{suffix}"

    def parts_done(self) -> int:
        """How many parts are whole, from the first on."""
        number = 0
        while self.part(number, ".json").exists():
            number += 1
        return number

    def close_part(self, number: int, records: Sequence[Mapping[str, Any]], delay: int) -> None:
        """Mark a part as done: its pictures are there."""
        with atomic_path(self.part(number, ".json")) as temporary:
            temporary.write_text(json.dumps({"delay": delay, "frames": list(records)}, separators=(",", ":")), "utf-8")

    def told(self, number: int) -> dict[str, Any]:
        """What `close_part` was given."""
        told: dict[str, Any] = json.loads(self.part(number, ".json").read_text("utf-8"))
        return told

    def close(self) -> None:
        with suppress(OSError):  # of a full disk: what could not be kept is found again
            self._open.close()

    def remove(self) -> None:
        """The film is finished."""
        self.close()
        with writing(self.folder):
            shutil.rmtree(self.folder)
