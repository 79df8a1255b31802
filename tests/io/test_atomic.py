from __future__ import annotations

import stat
from pathlib import Path

import pytest

from quantface_core.errors import WriteError
from quantface_core.io.atomic import atomic_path


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
