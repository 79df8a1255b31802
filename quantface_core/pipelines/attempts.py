"""How often a piece of work was started: in a process of its own, which must not load torch to count."""

from __future__ import annotations


class Attempts:
    """An actor of Ray's, outside the workers, whose counts would be lost with them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """Count a start; return how often it was started, this time included."""
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def end(self, name: str) -> None:
        """Clear a piece of work that finished: if its worker is lost later, this was not the cause."""
        self._counts.pop(name, None)
