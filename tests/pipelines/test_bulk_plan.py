"""Where a bulk run's results go: never onto a photo, never out of the output's folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PureWindowsPath

import pytest

from quantface_core.errors import UsageError
from quantface_core.io.stores import Place, locate, write
from quantface_core.pipelines import bulk_plan
from quantface_core.pipelines.bulk_plan import plan_bulk
from quantface_core.pipelines.jobs import RESULTS

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
from pyarrow import fs  # noqa: E402


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of one photo; planning looks at names alone."""
    folder = tmp_path.resolve() / "album"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a photo")
    return folder


def table(folder: Path, *rows: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "list.csv").write_text("\n".join(["path", *rows]) + "\n")
    return str(folder / "list.csv")


def names(source: str, output: Path) -> list[str]:
    return [photo.name for photo in plan_bulk([source], str(output)).photos]


def test_sources_are_known_by_whatever_way_leads_to_them(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (link := album.parent / "link").symlink_to(album)
    monkeypatch.chdir(album)
    for source, output in [
        (".", "../album"),
        (".", str(link)),
        (str(link), str(album)),
        (f"file://{album}/../album", str(album)),
        (str(album / "a.jpg"), f"file://{album}/b/.."),
    ]:
        with pytest.raises(UsageError, match="would overwrite a source"):
            plan_bulk([source], output)


def test_the_photo_behind_a_link_is_a_source_too(album: Path) -> None:
    (links := album.parent / "links").mkdir()
    (links / "a.jpg").symlink_to(album / "a.jpg")
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_bulk([str(links)], str(album))


def test_a_photo_by_another_name_is_a_source_too(album: Path) -> None:
    """Another name of the same file, as a mount or a disk that ignores case gives it."""
    (out := album.parent / "out").mkdir()
    os.link(album / "a.jpg", out / "a.jpg")
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_bulk([str(album)], str(out))


def test_results_are_not_restored_again(album: Path) -> None:
    (album / "out").mkdir()
    (album / "out" / "a.jpg").write_bytes(b"a result")
    store = fs._MockFileSystem()
    for name in ("in/a.jpg", "in/out/a.jpg", "in/outer/b.jpg"):
        write(Place(store, name, ""), b"a picture")
    for plan, wanted in (
        (plan_bulk([str(album)], str(album / "out"), recursive=True), ["a.jpg"]),
        (plan_bulk([f"file://{album}"], f"file://{album}/out", recursive=True), ["a.jpg"]),
        (plan_bulk(["in"], "in/out", recursive=True, store=store), ["a.jpg", "outer/b.jpg"]),
    ):
        assert [photo.name for photo in plan.photos] == wanted
        assert plan.skipped[RESULTS] == 1


def test_a_link_is_read_and_written_by_its_own_name(album: Path) -> None:
    """What it leads to may have no suffix, by which a photo's kind is known."""
    (album / "a.jpg").rename(album.parent / "0a1b2c")
    (album / "a.jpg").symlink_to(album.parent / "0a1b2c")
    (photo,) = plan_bulk([str(album)], str(album.parent / "out")).photos
    assert (photo.path, photo.name) == (str(album / "a.jpg"), "a.jpg")


def test_a_photo_is_done_once_by_whatever_ways(album: Path) -> None:
    rows = (f"{album}/a.jpg", f"{album}/../album/a.jpg", f"file://{album}/./a.jpg")
    assert len(names(table(album.parent / "set", *rows), album.parent / "out")) == 1


def test_a_tables_results_stay_within_the_output(album: Path) -> None:
    folder, below = album.parent / "set", f"{album}/a.jpg".lstrip("/")
    for row in (f"{folder}/../album/a.jpg", f"file://{folder}/../album/a.jpg", "../album/a.jpg"):
        assert names(table(folder, row), album.parent / "out") == [below]
    assert names(table(folder, f"{folder}/x/../a.jpg"), album.parent / "out") == ["a.jpg"]


def test_a_table_named_in_a_roundabout_way_keeps_its_folder(album: Path) -> None:
    table(album.parent / "set", "a.jpg")
    assert names(f"{album}/../set/list.csv", album.parent / "out") == ["a.jpg"]


def test_what_would_lie_outside_the_output_is_refused() -> None:
    store = fs._MockFileSystem()
    write(Place(store, "set/list.csv", ""), b"path\n../../raw/a.jpg\n")
    with pytest.raises(UsageError, match=r"\.\./\.\./raw/a\.jpg: its result would lie outside out"):
        plan_bulk(["set/list.csv"], "out", store=store)


def test_rows_that_name_no_file_are_left_out_and_told(album: Path) -> None:
    rows = ("/", ".", "..", "sub/..", "file:///", "sub/", "a.jpg/.", "file:///sub/", "a.jpg")
    plan = plan_bulk([table(album, *rows)], str(album.parent / "out"))
    assert [photo.name for photo in plan.photos] == ["a.jpg"]
    assert list(plan.skipped.values()) == [8]


def test_an_argument_without_pictures_is_refused_wherever_it_stands(album: Path) -> None:
    (album.parent / "empty").mkdir()
    empty, full = f"file://{album.parent}/empty", table(album, "a.jpg")
    for sources in ([empty, full], [full, empty], [full, table(album.parent / "roots", "/")]):
        with pytest.raises(UsageError, match="no photos found"):
            plan_bulk(sources, str(album.parent / "out"))
    with pytest.raises(UsageError, match=r"no photos found \(skipped: 1 rows of tables that name no file\)"):
        plan_bulk([table(album.parent / "roots", "sub/")], str(album.parent / "out"))
    assert len(plan_bulk([full, str(album)], str(album.parent / "out")).photos) == 1  # known already, but there


def test_rows_of_windows_are_read_as_it_writes_them(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album)
    monkeypatch.setattr(bulk_plan, "Path", PureWindowsPath)
    place = locate(table(album.parent / "set", "C:\\photos\\a.jpg", "sub\\a.jpg", "..\\b.jpg"))
    found = [(place.path, name) for place, name, _ in bulk_plan._of_table(place, None, "path", Counter())]
    assert found == [
        (f"{album}/C:/photos/a.jpg", f"{album}/C/photos/a.jpg".lstrip("/")),  # here no drive is known
        (f"{album.parent}/set/sub/a.jpg", "sub/a.jpg"),
        (f"{album.parent}/b.jpg", f"{album.parent}/b.jpg".lstrip("/")),
    ]
