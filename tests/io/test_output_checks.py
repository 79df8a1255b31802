from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.errors import UsageError
from quantface_core.io.output_checks import check_writable


def test_a_file_in_a_folder_that_is_yet_to_be_made_can_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "report.json", "report")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^report .*aaa.*: the name is too long for a file"):
        check_writable(tmp_path / ("a" * 300), "report")
    with pytest.raises(UsageError, match=r"^report .* is a folder: name a file"):
        check_writable(tmp_path, "report")
    with pytest.raises(UsageError, match=r"^report .*file is a file, not a folder"):
        check_writable(tmp_path / "file" / "report.json", "report")
