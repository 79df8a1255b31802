"""How long work tells its caller how far it has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total); an exception it raises ends the work, and what was worked on is unchanged."""


def silent(done: int, total: int) -> None:
    """The progress that nobody follows."""
