"""What decoders warn of, such as sizes and damage that are checked here, is kept from the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ...runtime.shared_context import SharedContext


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


quiet = SharedContext(_without_warnings)
"""Context manager: within it nothing warns, in no thread."""
