"""The manifest of a bulk run's output: on a disk, or copied to a store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..io.manifest import Manifest, Record
from ..io.stores import Place, is_there, read, write
from .archive import MANIFEST

_SAVED_EVERY = 30.0  # seconds between uploads of the manifest to a store, which cannot append


class _StoredManifest(Manifest):
    """A manifest on this machine that is copied to a store from time to time."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path, place.shown)
        self._local, self._place, self._saved, self._is_saved = path, place, time.monotonic(), True

    def add(self, record: Record) -> None:
        super().add(record)
        self._is_saved = False
        # A run's settings at once: they mark what it leaves when it is killed as ours.
        if "output" not in record or time.monotonic() - self._saved > _SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Copy the manifest to the store if lines were added."""
        if not self._is_saved:
            write(self._place, self._local.read_bytes())
            self._saved, self._is_saved = time.monotonic(), True


@contextmanager
def open_manifest(output: Place) -> Iterator[Manifest]:
    """The output's manifest, which only the driver writes: line by line on a disk, as repeated copies in a store."""
    place = output / MANIFEST
    if place.is_local:
        manifest = Manifest(Path(place.path))
        try:
            yield manifest
        finally:
            manifest.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST
        if is_there(place):
            path.write_bytes(read(place))
        stored = _StoredManifest(path, place)
        try:
            yield stored
        finally:
            stored.close()
            stored.save()
