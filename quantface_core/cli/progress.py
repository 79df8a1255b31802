"""A pipeline's callbacks on a terminal: bars and notices on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ..pipelines.callbacks import PipelineCallbacks, StageProgress
from .message import one_line


class ProgressBars:
    """One bar per stage, one at a time, silent where standard error is no terminal."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None  # tqdm has no types

    def __enter__(self) -> PipelineCallbacks:
        return PipelineCallbacks(progress=self._show, notify=self._notify)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def _show(self, progress: StageProgress) -> None:
        if self._bar is None or self._stage != progress.stage:
            self._close()
            self._stage = progress.stage
            self._bar = tqdm(desc=progress.stage, unit=progress.unit, disable=None, dynamic_ncols=True)
        self._bar.total = progress.total
        if progress.detail:
            self._bar.set_postfix_str(progress.detail, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def _notify(self, text: str) -> None:
        tqdm.write(one_line(text), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
