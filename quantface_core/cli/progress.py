"""A pipeline's callbacks on standard error: bars, or lines where that is no terminal, and notices."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ..pipelines.callbacks import PipelineCallbacks, StageProgress
from .message import one_line, tell

_EVERY = 60  # seconds between the lines in a log


class ProgressBars:
    """One bar per stage, one at a time; in a log (no terminal, as in a container) a line a minute instead."""

    def __init__(self) -> None:
        self._stage, self._told = "", 0.0
        self._bar: Any = None  # tqdm has no types

    def __enter__(self) -> PipelineCallbacks:
        return PipelineCallbacks(progress=self._show, notify=self._notify)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def _show(self, progress: StageProgress) -> None:
        if not sys.stderr.isatty():
            self._log(progress)
            return
        if self._bar is None or self._stage != progress.stage:
            self._close()
            self._stage = progress.stage
            # What was done before, by a run that this one resumes, is not counted in its speed.
            self._bar = tqdm(desc=progress.stage, unit=progress.unit, dynamic_ncols=True, initial=progress.done)
        self._bar.total = progress.total
        if progress.detail:
            self._bar.set_postfix_str(progress.detail, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def _log(self, progress: StageProgress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage:  # one that takes less than a minute is not worth a line
            self._stage, self._told = progress.stage, now
        if now - self._told >= _EVERY:
            self._told = now
            detail = f", {progress.detail}" if progress.detail else ""
            share = progress.done / max(1, progress.total)
            tell(f"{progress.stage}: {share:.0%} of {progress.total} {progress.unit}s{detail}")

    def _notify(self, text: str) -> None:
        tqdm.write(one_line(text), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
