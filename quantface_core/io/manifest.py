"""The manifest of an archive: one line of JSON per result, appended as it is made, read when a run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .atomic import writing
from .process_lock import only_process

Record = Mapping[str, Any]
_RESULT = {"output", "settings", "size", "mtime_ns", "sha256", "error"}  # fields that every result's record has
_STARTS = (b'{"output":"', b'{"settings":"')  # of lines, by which a half-written one is recognised


class Manifest:
    """A file of JSON lines; of several lines on one output the last counts. Raises WriteError.

    One process holds it exclusively, until it closes it or ends.

    Each run records its settings, then its results; a result that was there before the first run is recorded as
    `foreign`.
    """

    def __init__(self, path: Path, shown: str = "") -> None:
        """Read what there is; messages call the file `shown`. A line that a killed process left half-written is cut
        off.

        Raises UsageError for a file of another kind, which is left unchanged, or one that another process holds.
        """
        self._path, self._shown = path, shown or str(path)
        self._records: dict[str, Record] = {}
        self.begun = False  # whether a run has recorded its settings
        refusal = f"{self._shown}: another process is working on this folder: wait for it, or choose another output"
        with writing(path), ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_process(path.with_name(f".{path.name}.lock"), refusal))
            self._read()
            # Unbuffered: else what a full disk rejects would stay in the buffer, to be written, and fail, again.
            self._file = stack.enter_context(path.open("ab", buffering=0))
            self._open = stack.pop_all()

    def _read(self) -> None:
        whole = 0
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if _is_torn(line, first=number == 1):
                    break
                if (record := _record(line)) is None:
                    reason = f"line {number} does not belong to a QuantFace manifest"
                    raise UsageError(f"{self._shown}: {reason}: move the file, or choose another output folder")
                self._know(record)
                whole += len(line)
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)

    def _know(self, record: Record) -> None:
        if "output" in record:
            self._records[record["output"]] = record
        else:
            self.begun = True

    def get(self, output: str) -> Record | None:
        """The last record of an output; None where there is none."""
        return self._records.get(output)

    def add(self, record: Record) -> None:
        """Append a line; it persists even if the process is killed right after."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with writing(self._path):
            while line:
                line = line[self._file.write(line) :]
        self._know(record)

    def close(self) -> None:
        """Close the file and let other processes in."""
        with writing(self._path):
            self._open.close()


def _is_torn(line: bytes, first: bool) -> bool:
    """Whether a killed process left this line half-written; a first line must look like one of ours to count."""
    begins = any(line[: len(start)] == start[: len(line)] for start in _STARTS)
    return not line.endswith(b"\n") and (begins or not first)


def _record(line: bytes) -> Record | None:
    """The record on a complete line; None where it is not a manifest's."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and _is_known(record) else None


def _is_known(record: Record) -> bool:
    if "output" not in record:
        return record.keys() >= {"settings", "means"}
    return isinstance(record["output"], str) and ("foreign" in record or record.keys() >= _RESULT)
