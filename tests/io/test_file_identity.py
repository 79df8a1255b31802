from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from quantface_core.io.file_identity import file_identity, file_version


def test_all_names_of_a_file_are_one(tmp_path: Path) -> None:
    file, link, other = tmp_path / "a.png", tmp_path / "link.png", tmp_path / "b.png"
    file.touch()
    other.touch()
    link.symlink_to(file)
    assert file_identity(file) == file_identity(link) == file_identity(tmp_path / "." / "a.png")
    assert file_identity(file) != file_identity(other)


def test_a_file_that_is_yet_to_be_written_is_known_by_where_it_will_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert file_identity(tmp_path / "link" / "a.png") == file_identity(tmp_path / "folder" / "a.png")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert file_identity(tmp_path / "circle") is not None


def test_a_file_that_takes_anothers_place_has_another_version(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        path.write_bytes(b"as many bytes")
        os.utime(path, (1, 1))
    before = file_version(old)
    assert file_version(old) == before
    new.replace(old)
    assert file_version(old) != before


def test_a_version_changes_with_size_times_and_inode(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict.fromkeys(("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"), 1)

    def version(**changed: int) -> tuple[int, ...]:
        monkeypatch.setattr(Path, "stat", lambda _: SimpleNamespace(**{**found, **changed}))
        return file_version(Path("any"))

    assert all(version(**{field: 2}) != version() for field in found)
