"""Times that go on where a recording's begin again: DVDs', broadcasts', and films joined byte by byte."""

from __future__ import annotations

from fractions import Fraction

_BACK = Fraction(1, 10)  # seconds by which times go back where they begin again; less is a flaw of the recording


class Continuity:
    """Takes the times of one pass through a film, its streams mixed."""

    def __init__(self) -> None:
        self.offset = Fraction(0)  # seconds to add to the times from here on
        self._due: dict[int, Fraction] = {}  # by stream: when its next packet or frame is due

    def update(self, stream: int, begins: Fraction, length: Fraction) -> None:
        """Add a packet or frame of a stream, by the seconds at which it begins, and that it lasts."""
        due = self._due.get(stream)
        if due is not None and begins + self.offset < due - _BACK:
            self.offset = due - begins
        self._due[stream] = begins + self.offset + length
