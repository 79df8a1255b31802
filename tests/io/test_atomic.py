from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quantface_core.errors import UsageError, WriteError
from quantface_core.io.atomic import atomic_path, check_writable


def test_success_replaces_and_makes_folders(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert target.read_text() == text
    assert stat.S_IMODE(target.stat().st_mode) & 0o400
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_of_the_file_system_is_told_as_one_of_writing(tmp_path: Path) -> None:
    """Whether the folder is in the way or the disk is full, and whoever asks."""
    (tmp_path / "file").write_text("in the way")

    def write(target: Path, error: OSError | None = None) -> None:
        with atomic_path(target):
            if error:
                raise error

    with pytest.raises(WriteError, match=r"x\.txt: cannot write"):
        write(tmp_path / "file" / "x.txt")
    with pytest.raises(WriteError, match=r"y\.txt: cannot write .No space left"):
        write(tmp_path / "y.txt", OSError(28, "No space left on device"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    for text in ("first", "second"):  # it is not there at first
        with atomic_path(link) as temporary:
            assert temporary.parent == real.parent
            temporary.write_text(text)
        assert link.is_symlink()
        assert real.read_text() == text


def test_permissions_stay(tmp_path: Path) -> None:
    target = tmp_path / "private.txt"
    target.touch(mode=0o600)
    with atomic_path(target) as temporary:
        temporary.write_text("mine")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_the_mask_is_never_set_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads' files are open to all"))
    with atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("text")


def test_a_name_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "report.json", "--json")
    with pytest.raises(UsageError, match=r"--json .*a name too long for a file"):
        check_writable(tmp_path / ("a" * 300), "--json")
