"""Models that are not here yet: fetched or built while the node's bar moves; its cancel button ends it."""

from __future__ import annotations

from pathlib import Path

from . import host


def make(name: str) -> Path:
    """The file of a model that is fetched or built now. Raises ModelError with what was said last."""
    from ..quantface_core.io.making import make as made

    bar = host.Progress()
    return made(name, lambda percent, _: bar(percent, 100))
