"""A setting of the process, changed while any thread needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quantface_core.runtime.shared_context import SharedContext


def test_it_is_entered_by_the_first_and_left_by_the_last() -> None:
    seen: list[str] = []

    @contextmanager
    def noted() -> Iterator[None]:
        seen.append("entered")
        yield
        seen.append("left")

    shared = SharedContext(noted)
    shared.__enter__()  # as threads that enter and leave in turn
    shared.__enter__()
    shared.__exit__()
    assert seen == ["entered"]
    shared.__exit__()
    assert seen == ["entered", "left"]
    with shared:  # again
        assert seen[2:] == ["entered"]
