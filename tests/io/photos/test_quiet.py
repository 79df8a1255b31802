"""Decoders' warnings are silenced for as long as photos are read, and no longer."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image

from quantface_core.io.photos import read, read_photo
from quantface_core.io.photos.quiet import quiet


def test_threads_leave_the_programs_warnings_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"first": Event(), "last": Event()}
    decode, first_is_read = read._read_frames, Event()

    def waiting(path: Path, *given: Any) -> Any:
        inside[path.stem].set()
        assert (inside["last"] if path.stem == "first" else first_is_read).wait(30)
        return decode(path, *given)

    monkeypatch.setattr(read, "_read_frames", waiting)
    for name in inside:
        Image.new("RGB", (3, 2)).save(tmp_path / f"{name}.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read_photo, tmp_path / "first.png")
        assert inside["first"].wait(30)
        last = pool.submit(read_photo, tmp_path / "last.png")
        assert first.result(30).size == (3, 2)
        first_is_read.set()
        assert last.result(30).size == (3, 2)
    assert list(warnings.filters) == before


def test_within_it_nothing_warns() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with quiet, quiet:
            warnings.warn("of a decoder", stacklevel=1)
        warnings.warn("of the program", stacklevel=1)
    assert [str(warning.message) for warning in told] == ["of the program"]
