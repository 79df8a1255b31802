"""Memory around a node's work: kept for reuse while it runs, and returned to the system afterwards."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Inside, freed memory is kept for reuse; on exit it is returned to the system.

    Also when the work fails: the host keeps the exception for a while, and with its traceback everything those
    functions held. Out of memory on the GPU is raised as torch's own error, for which the host frees memory and shows
    advice.
    """
    from ..quantface_core.runtime.memory import kept_memory

    with kept_memory():
        try:
            yield
        except BaseException as error:
            for link in _chain(error):
                traceback.clear_frames(link.__traceback__)
            gc.collect()
            if isinstance(error.__cause__, torch.OutOfMemoryError):
                raise error.__cause__ from None
            raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was raised from or while handling."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
