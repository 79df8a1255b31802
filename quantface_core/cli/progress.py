"""A progress bar as the stages want it: called with what is done, of how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, silent where that is no terminal; its length comes with the first call."""
    with tqdm(desc=name, unit=unit, disable=None) as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield progress
