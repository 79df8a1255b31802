from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantface_core.errors import UsageError
from quantface_core.io.atomic import atomic_path
from quantface_core.io.photos import FORMATS
from quantface_core.pipelines.jobs import FoundPhotos, find_photos, plan_jobs
from quantface_core.pipelines.result_names import distinct_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "sub/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folders_patterns_and_files_each_photo_once(folder: Path) -> None:
    assert names(find_photos([str(folder)]).photos) == ["a.JPG", "b.png"]
    assert names(find_photos([str(folder / "*.png"), str(folder / "b.png")]).photos) == ["b.png"]
    assert names(find_photos([str(folder / "**/*.png")]).photos) == ["b.png", "b.png", "c.png"]
    assert names(find_photos([str(folder / "missing.png")]).photos) == ["missing.png"]


def test_what_a_folder_passes_over_is_told(folder: Path) -> None:
    for name in ("._a.JPG", "c.HEIC", "d.jxl", "e.dng", "f.avif", "g.jfif", "h", ".hidden"):
        (folder / name).write_bytes(b"")
    found = find_photos([str(folder)])
    assert names(found.photos) == ["a.JPG", "b.png", "c.HEIC", "d.jxl", "f.avif", "g.jfif"]
    assert dict(found.skipped) == {
        "._ files of macOS": 1,
        "subfolders (recursive includes them)": 1,
        "camera raw files (develop them first)": 1,
        ".txt (not an image)": 1,
        "files without suffix (not an image)": 1,
    }
    assert "1 ._ files of macOS; 1 .txt" in found.summary()


def test_folders_in_folders_keep_their_places(folder: Path, tmp_path: Path) -> None:
    found = find_photos([str(folder)], recursive=True)
    assert names(found.photos) == ["a.JPG", "b.png", "b.png", "c.png"]
    targets = [job.target.relative_to(tmp_path / "out") for job in plan_jobs(found, tmp_path / "out", compare=False)]
    assert [str(t) for t in targets] == ["a.JPG", "b.png", "sub/b.png", "sub/c.png"]
    assert not found.summary().count("folders")


def given(*photos: Path) -> FoundPhotos:
    return FoundPhotos(list(photos))


def test_comparisons_never_collide(tmp_path: Path) -> None:
    jobs = plan_jobs(given(Path("p.jpg"), Path("p.png"), Path("q.png")), tmp_path, compare=True)
    assert names([j.target for j in jobs]) == ["p.jpg", "p_2.png", "q.png"]
    assert names([j.compare for j in jobs]) == ["p_compare.png", "p_2_compare.png", "q_compare.png"]
    without = plan_jobs(given(Path("p.jpg"), Path("p.png")), tmp_path, compare=False)
    assert names([j.target for j in without]) == ["p.jpg", "p.png"]


@pytest.mark.parametrize("stem", ["n" * 249, "\u00e4" * 124])
def test_names_as_long_as_they_may_be(tmp_path: Path, stem: str) -> None:
    first, second = plan_jobs(given(Path(f"{stem}.jpeg"), Path(f"{stem}.JPEG")), tmp_path, compare=True)
    assert second.target.name.endswith("_2.JPEG")
    assert second.compare.name.endswith("_2_compare.png")
    for path in (first.target, first.compare, second.target, second.compare):
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"")
        assert path.exists()


@pytest.mark.parametrize("name", ["x.gif", "x.heic", "x.bmp", "x.pdf", "x.DNG"])
def test_a_picture_that_cannot_be_written_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot write \.\w+; use"):
        plan_jobs(given(Path("p.jpg")), tmp_path / name, compare=False)
    (tmp_path / name).mkdir()
    plan_jobs(given(Path("p.jpg")), tmp_path / name, compare=False)


def test_nothing_to_do_is_a_mistake(folder: Path) -> None:
    (folder / "empty").mkdir()
    for argument in (folder / "empty", folder / "*.webp"):
        with pytest.raises(UsageError, match="no photos found"):
            find_photos([str(argument)])


def test_results_keep_names_and_never_collide(folder: Path, tmp_path: Path) -> None:
    photos = [folder / "b.png", folder / "sub" / "b.png", Path("x.bmp")]
    jobs = plan_jobs(given(*photos), tmp_path / "out", compare=True)
    assert names([j.target for j in jobs]) == ["b.png", "b_2.png", "x.png"]
    assert names([j.compare for j in jobs]) == ["b_compare.png", "b_2_compare.png", "x_compare.png"]


def test_one_photo_may_name_its_result(folder: Path, tmp_path: Path) -> None:
    assert plan_jobs(given(folder / "b.png"), tmp_path / "r.jpg", compare=False)[0].target == tmp_path / "r.jpg"
    (tmp_path / "dots.png").mkdir()
    assert (
        plan_jobs(given(folder / "b.png"), tmp_path / "dots.png", compare=False)[0].target
        == tmp_path / "dots.png/b.png"
    )


def test_a_source_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs(given(folder / "b.png"), folder, compare=False)
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs(given(folder / "b.png"), folder / "sub" / ".." / "b.png", compare=False)
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs(given(folder / "b.png", folder / "b_compare.png"), folder.parent / "out" / ".." / "in", compare=True)


def test_a_source_is_known_by_another_name(folder: Path, tmp_path: Path) -> None:
    """Another name of the same file, as a mount or a disk that ignores case gives it."""
    (tmp_path / "out").mkdir()
    os.link(folder / "b.png", tmp_path / "out" / "b.png")
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_jobs(given(folder / "b.png"), tmp_path / "out", compare=False)


def test_results_lie_apart_on_disks_that_ignore_case(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "A.jpg").write_bytes(b"")
    jobs = plan_jobs(given(folder / "a.JPG", folder / "sub" / "A.jpg"), tmp_path / "out", compare=False)
    assert names([job.target for job in jobs]) == ["a.JPG", "A_2.jpg"]
    accents = [Path("caf\u00e9.png"), Path("cafe\u0301.png")]
    assert [target.name for target, _ in distinct_names(accents)] == ["caf\u00e9.png", "cafe\u0301_2.png"]


def test_a_photo_s_result_keeps_its_name_before_another_gets_it(folder: Path, tmp_path: Path) -> None:
    (folder / "b.avif").write_bytes(b"")
    jobs = plan_jobs(given(folder / "b.avif", folder / "b.png"), tmp_path / "out", compare=True)
    assert [(job.source.name, job.target.name) for job in jobs] == [("b.avif", "b_2.png"), ("b.png", "b.png")]
    assert [job.compare and job.compare.name for job in jobs] == ["b_2_compare.png", "b_compare.png"]


def test_many_results_of_one_name_are_numbered_on(tmp_path: Path) -> None:
    wanted = [tmp_path / "a.png"] * 20_000 + [tmp_path / "a_3.png", tmp_path / "a.png"]
    found = [target.stem for target, _ in distinct_names(wanted)]
    assert len(set(found)) == len(wanted)
    assert found[:3] == ["a", "a_2", "a_3"]
    assert found[-2:] == ["a_3_2", "a_20001"]


def test_a_link_that_leads_to_itself_is_one_photo_that_fails(folder: Path) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert "loop.png" in names(find_photos([str(folder / "loop.png"), str(folder)]).photos)


def test_results_are_not_restored_again(folder: Path) -> None:
    (folder / "restored").mkdir()
    (folder / "restored" / "a.JPG").write_bytes(b"")
    found = find_photos([str(folder)], recursive=True, output=folder / "sub" / ".." / "restored")
    assert names(found.photos) == ["a.JPG", "b.png", "b.png", "c.png"]
    assert found.skipped["folders of results (the output)"] == 1
    assert names(find_photos([str(folder / "restored")], output=folder / "restored").photos) == ["a.JPG"]


def test_all_results_may_have_one_format(folder: Path, tmp_path: Path) -> None:
    photos = given(folder / "a.JPG", folder / "sub" / "b.png", folder / "b.heic", folder / "c.jpeg", folder / "c.tif")
    jobs = plan_jobs(photos, tmp_path / "out", compare=False, suffixes=FORMATS["jpg"])
    assert names([job.target for job in jobs]) == ["a.JPG", "b.jpg", "b_2.jpg", "c.jpeg", "c.jpg"]
    one = given(folder / "b.heic")
    assert plan_jobs(one, tmp_path / "r.jpeg", compare=False, suffixes=FORMATS["jpg"])[0].target.name == "r.jpeg"
    with pytest.raises(UsageError, match=r"r.png is not .jpg: end its name so, or leave the format out"):
        plan_jobs(one, tmp_path / "r.png", compare=False, suffixes=FORMATS["jpg"])


def test_the_brackets_of_a_folder_s_name_are_no_pattern(tmp_path: Path) -> None:
    """Where no shell expands patterns, as on Windows."""
    for folder in ("Photos [2003]", "Photos 2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    assert find_photos([f"{tmp_path}/Photos [2003]/*.jpg"]).photos == [tmp_path / "Photos [2003]" / "a.jpg"]
    assert find_photos([f"{tmp_path}/Photos [23]/*.jpg"]).photos == [tmp_path / "Photos 2" / "a.jpg"]


def test_a_pattern_that_searches_folders_passes_over_results(folder: Path) -> None:
    (folder / "restored" / "of").mkdir(parents=True)
    for name in ("b.png", "of/c.png"):
        (folder / "restored" / name).write_bytes(b"")
    output = folder / "restored"
    found = find_photos([str(folder / "**" / "*.png")], output=output)
    assert [path.relative_to(folder).as_posix() for path in found.photos] == ["b.png", "sub/b.png", "sub/c.png"]
    assert found.skipped["folders of results (the output)"] == 1
    named = find_photos([str(output / "**" / "*.png")], output=output)
    assert names(named.photos) == ["b.png", "c.png"]


def test_a_closed_folder_in_a_folder_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Path.iterdir

    def closed(path: Path) -> Iterator[Path]:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(Path, "iterdir", closed)
    found = find_photos([str(folder)], recursive=True)
    assert names(found.photos) == ["a.JPG", "b.png"]
    assert found.skipped["folders that cannot be looked into"] == 1
    with pytest.raises(UsageError, match="sub: cannot look into it"):
        find_photos([str(folder / "sub")])


def test_a_name_too_long_to_be_fails_when_it_is_read(folder: Path) -> None:
    name = "x" * 300 + ".png"
    assert names(find_photos([name, str(folder / "b.png")]).photos) == [name, "b.png"]


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are 2 photos: name a folder"):
        plan_jobs(given(folder / "b.png", folder / "a.JPG"), tmp_path / "one.png", compare=False)
    with pytest.raises(UsageError, match="a file but not an image"):
        plan_jobs(given(folder / "b.png"), folder / "notes.txt", compare=False)
