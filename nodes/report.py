"""What a node says it did to the faces of its pictures: the report, and the notes that the node itself shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..quantface_core.types import Face

_LINES = 40  # of faces in a picture, and of pictures in all
_NOTES = 5


@dataclass
class Report:
    """Filled picture by picture."""

    done: str  # to a face, in a word
    notes: list[str] = field(default_factory=list)  # one line each: what the user should know, once
    pictures: list[list[str]] = field(default_factory=list)
    faces: list[tuple[int, int]] = field(default_factory=list)  # by picture: (changed, in all)

    def note(self, text: str) -> None:
        """Keep a note; not an empty one, nor one that is there."""
        if text and text not in self.notes:
            self.notes.append(text)

    def shown_notes(self) -> list[str]:
        """The notes, at most so many: those of a video may be as many as its frames."""
        rest = self.notes[_NOTES:]
        return [*self.notes[:_NOTES], *([f"and {len(rest)} more such notes"] if rest else [])]

    def picture(
        self,
        faces: Sequence[Face],
        chosen: Sequence[int],
        changed: Sequence[int],
        words: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """A picture's faces: those that were to be changed, those in which a pixel did change, and words for some."""
        lines = [f"picture {len(self.pictures)}: {len(changed)} of {len(faces)} faces {self.done}"]
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
        """A picture in which no face was looked for."""
        self.pictures.append([f"picture {len(self.pictures)}: {why}"])
        self.faces.append((0, 0))

    def text(self) -> str:
        """Notes first; of many pictures the first, and what became of the rest."""
        lines = [*self.shown_notes(), *(line for picture in self.pictures[:_LINES] for line in picture)]
        if rest := self.faces[_LINES:]:
            changed, every = (sum(column) for column in zip(*rest, strict=True))
            lines.append(f"and {len(rest)} more pictures: {changed} of {every} faces {self.done}")
        return "\n".join(lines)
