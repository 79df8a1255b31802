"""A node's report on the faces of its images, and the notes shown on the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..quantface_core.types import Face

_LINES = 40  # of faces in an image, and of images in total
_NOTES = 5


@dataclass
class Report:
    """Filled image by image."""

    done: str  # the word for a changed face
    notes: list[str] = field(default_factory=list)  # one line each: what the user should know, once
    pictures: list[list[str]] = field(default_factory=list)
    faces: list[tuple[int, int]] = field(default_factory=list)  # by image: (changed, in total)

    def note(self, text: str) -> None:
        """Add a note unless it is empty or already there."""
        if text and text not in self.notes:
            self.notes.append(text)

    def shown_notes(self) -> list[str]:
        """The first notes: a video may have as many as frames."""
        rest = self.notes[_NOTES:]
        return [*self.notes[:_NOTES], *([f"and {len(rest)} more such notes"] if rest else [])]

    def picture(
        self,
        faces: Sequence[Face],
        chosen: Sequence[int],
        changed: Sequence[int],
        words: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Add an image: its faces, the selected ones, those in which a pixel changed, and descriptions of some."""
        lines = [f"image {len(self.pictures)}: {len(changed)} of {len(faces)} faces {self.done}"]
        for number, face in enumerate(faces[:_LINES]):
            left, top, width, height = (round(v) for v in face.box)
            state = self.done if number in changed else "no pixel changed" if number in chosen else "left unchanged"
            state = words.get(number, state)
            lines.append(f"  face {number}: {width}x{height} at {left},{top}, confidence {face.score:.2f}, {state}")
        if beyond := range(_LINES, len(faces)):
            lines.append(f"  and {len(beyond)} more, {len(set(beyond) & set(changed))} of them {self.done}")
        self.pictures.append(lines)
        self.faces.append((len(changed), len(faces)))

    def left_out(self, why: str) -> None:
        """Add an image in which no faces were detected, because of `why`."""
        self.pictures.append([f"image {len(self.pictures)}: {why}"])
        self.faces.append((0, 0))

    def text(self) -> str:
        """The notes, then the first images, then a summary of the rest."""
        lines = [*self.shown_notes(), *(line for picture in self.pictures[:_LINES] for line in picture)]
        if rest := self.faces[_LINES:]:
            changed, every = (sum(column) for column in zip(*rest, strict=True))
            lines.append(f"and {len(rest)} more images: {changed} of {every} faces {self.done}")
        return "\n".join(lines)
