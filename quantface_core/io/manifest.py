"""What was made of every file of an archive, a line of JSON each: appended as it is made, read when work goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import WriteError

Record = Mapping[str, Any]


class Manifest:
    """A file of JSON lines; of several lines on one output the last counts. Raises WriteError."""

    def __init__(self, path: Path) -> None:
        """Read what there is. A line that a killed process left half-written is cut off."""
        self._path = path
        self._records: dict[str, Record] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read()
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{path}: cannot write ({error.strerror})") from None

    def _read(self) -> None:
        whole = 0
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    break
                whole += len(line)
                if "output" in record:
                    self._records[record["output"]] = record
        os.truncate(self._path, whole)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, output: str) -> Record | None:
        """The last record of an output."""
        return self._records.get(output)

    def add(self, record: Record) -> None:
        """Append a line; it is there even if the process is killed right after."""
        if "output" in record:
            self._records[record["output"]] = record
        try:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            raise WriteError(f"{self._path}: cannot write ({error.strerror})") from None

    def close(self) -> None:
        self._file.close()
