"""The folder of a training run whose caller names none: by the run's identity, until the run is finished."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{16}")  # of a run's folder: nothing else in `runs` is ours to remove
_KEPT = 7 * 24 * 60 * 60  # seconds after its last save that a stopped run can be resumed


@contextmanager
def run_folder(runs: Path, identity: str) -> Iterator[Path]:
    """Yield the run's own folder in `runs`, the same one for the same identity, and remove it once the run succeeds.

    What a stopped run has saved stays for a week, and without a saved state nothing stays. `identity` is a SHA-256.
    """
    _remove_old(runs)
    folder = runs / identity[:16]
    try:
        yield folder
    except BaseException:
        if not _states(folder):
            _remove(folder)
        raise
    _remove(folder)


def _states(folder: Path) -> list[Path]:
    return list(folder.glob("*state.safetensors"))


def _remove_old(runs: Path) -> None:
    for folder in (path for path in runs.glob("*/") if _NAME.fullmatch(path.name)):
        with suppress(OSError):  # another process removes it, too
            if max((state.stat().st_mtime for state in _states(folder)), default=0) < time.time() - _KEPT:
                _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other runs are in it
        folder.parent.rmdir()
