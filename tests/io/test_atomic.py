from __future__ import annotations

import stat
from pathlib import Path

import pytest

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
