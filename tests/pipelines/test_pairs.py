"""Degraded faces and their originals find each other by name."""

from pathlib import Path

import pytest

from quantface_core.errors import UsageError
from quantface_core.pipelines.pairs import find_pairs


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("lq/a.jpg", "lq/b.png", "lq/c.png", "gt/b.jpg", "gt/a.png", "gt/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "lq", tmp_path / "gt"


def test_names_pair_and_the_others_are_told(folders: tuple[Path, Path]) -> None:
    lq, gt = folders
    pairs, unpaired = find_pairs(lq, gt, False, None)
    assert pairs == {"a": (lq / "a.jpg", gt / "a.png"), "b": (lq / "b.png", gt / "b.jpg")}
    assert unpaired == sorted([str(lq / "c.png"), str(gt / "d.png")])
    assert list(find_pairs(lq, gt, False, 1)[0]) == ["a"]


def test_without_originals_all_are_taken(folders: tuple[Path, Path]) -> None:
    assert find_pairs(folders[0], None, False, None)[0]["c"] == (folders[0] / "c.png", None)
    assert find_pairs(folders[0], None, True, None)[0]["c"] == (folders[0] / "c.png",) * 2


def test_what_makes_no_sense_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    lq, gt = folders
    with pytest.raises(UsageError, match="leave gt out"):
        find_pairs(lq, gt, True, None)
    with pytest.raises(UsageError, match=r"gt.*no such folder"):
        find_pairs(lq, tmp_path / "nowhere", False, None)
    with pytest.raises(UsageError, match="count"):
        find_pairs(lq, gt, False, 0)
    (lq / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"a\.jpg and a\.png"):
        find_pairs(lq, gt, False, None)
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.png").write_bytes(b"")
    with pytest.raises(UsageError, match="no face in"):
        find_pairs(other, gt, False, None)


def test_folders_of_subfolders_pair_too(tmp_path: Path) -> None:
    """As FFHQ comes, and its degraded copy."""
    for name in ("lq/00000/a.png", "lq/01000/b.png", "gt/b.png", "gt/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(find_pairs(tmp_path / "lq", tmp_path / "gt", False, None)[0]) == ["a", "b"]
    (tmp_path / "lq" / "01000" / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"00000.a\.png and 01000.a\.png have the same name"):
        find_pairs(tmp_path / "lq", tmp_path / "gt", False, None)
