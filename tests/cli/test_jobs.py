from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.cli.jobs import find_photos, plan_jobs
from quantface_core.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "sub/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folders_patterns_and_files_each_photo_once(folder: Path) -> None:
    assert names(find_photos([str(folder)])) == ["a.JPG", "b.png"]
    assert names(find_photos([str(folder / "*.png"), str(folder / "b.png")])) == ["b.png"]
    assert names(find_photos([str(folder / "**/*.png")])) == ["b.png", "b.png", "c.png"]
    assert names(find_photos([str(folder / "missing.png")])) == ["missing.png"]


def test_nothing_to_do_is_a_mistake(folder: Path) -> None:
    (folder / "empty").mkdir()
    for argument in (folder / "empty", folder / "*.webp"):
        with pytest.raises(UsageError, match="no pictures there"):
            find_photos([str(argument)])


def test_results_keep_names_and_never_collide(folder: Path, tmp_path: Path) -> None:
    photos = [folder / "b.png", folder / "sub" / "b.png", Path("x.bmp")]
    jobs = plan_jobs(photos, tmp_path / "out", compare=True)
    assert names([j.target for j in jobs]) == ["b.png", "b_2.png", "x.png"]
    assert names([j.compare for j in jobs]) == ["b_compare.png", "b_2_compare.png", "x_compare.png"]


def test_one_photo_may_name_its_result(folder: Path, tmp_path: Path) -> None:
    assert plan_jobs([folder / "b.png"], tmp_path / "r.jpg", compare=False)[0].target == tmp_path / "r.jpg"
    (tmp_path / "dots.png").mkdir()
    assert plan_jobs([folder / "b.png"], tmp_path / "dots.png", compare=False)[0].target == tmp_path / "dots.png/b.png"


def test_a_source_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs([folder / "b.png"], folder, compare=False)
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs([folder / "b.png"], folder / "sub" / ".." / "b.png", compare=False)
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs([folder / "b.png", folder / "b_compare.png"], folder.parent / "out" / ".." / "in", compare=True)


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are 2 photos: name a folder"):
        plan_jobs([folder / "b.png", folder / "a.JPG"], tmp_path / "one.png", compare=False)
    with pytest.raises(UsageError, match="a file that is no picture"):
        plan_jobs([folder / "b.png"], folder / "notes.txt", compare=False)
