"""Places of stores: what a name leads to."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from quantface_core.errors import ImageError, UsageError, WriteError
from quantface_core.io import stores
from quantface_core.io.stores import GONE, Place, is_there, is_uri, locate, read, relative_names, stamp, suffix, write

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
from pyarrow import fs  # noqa: E402


class SilentStore:
    """One that does not answer."""

    type_name = "silent"

    def get_file_info(self, _: Any) -> Any:
        raise OSError("timed out")


def test_uris_and_names_within_a_store_are_normalized() -> None:
    assert locate("mock:///set/../raw/./a.jpg").path == "raw/a.jpg"
    assert locate("file:///set/%2E%2E/raw/").path == "/raw"
    assert locate("set/../raw/a.jpg", fs._MockFileSystem()).path == "raw/a.jpg"
    assert locate("", fs._MockFileSystem()).path == ""


def test_a_local_name_means_what_the_system_means_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`..` behind a link is above what the link leads to."""
    (tmp_path / "far" / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "set")
    (tmp_path / "far" / "a.jpg").write_bytes(b"a photo")
    monkeypatch.chdir(tmp_path)
    place = locate("link/../a.jpg")
    assert is_there(place)
    assert place.real_path == str(tmp_path.resolve() / "far" / "a.jpg")


def test_what_is_not_there_is_told_from_what_is_not_answered() -> None:
    store = fs._MockFileSystem()
    place = Place(store, "a.bin", "mock://a.bin")
    assert not is_there(place)
    write(place, b"content")
    assert is_there(place)
    with pytest.raises(UsageError, match=r"silent://a\.bin: cannot look into it \(timed out\)"):
        is_there(Place(SilentStore(), "a.bin", "silent://a.bin"))


def test_a_file_that_cannot_be_written_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)  # a file cannot take a folder's name
    with pytest.raises(WriteError, match="cannot write"):
        write(locate(str(tmp_path / "taken")), b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_names_below_a_folder_do_not_lead_out_of_it() -> None:
    assert relative_names(["/set/../raw/a.jpg", "/set/x/../b.jpg", "/set/c.jpg"], "/set") == [
        "raw/a.jpg",
        "b.jpg",
        "c.jpg",
    ]
    assert relative_names(["/set/a.jpg"], "/album/../set") == ["a.jpg"]
    assert relative_names(["a.jpg"], "") == ["a.jpg"]


def test_a_question_mark_is_a_part_of_a_local_name() -> None:
    assert suffix("who?.jpg") == ".jpg"
    assert suffix("/a/what? me.CSV") == ".csv"
    assert suffix("s3://bucket/a.jpg?region=eu.west") == ".jpg"


def test_a_uri_of_this_machine_s_files_is_read_by_its_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("file:///set/a%20b.jpg").path == "/set/a b.jpg"
    monkeypatch.setattr(stores, "url2pathname", lambda path: path.lstrip("/"))  # as on Windows
    assert locate("file:///C:/set/../raw").path == "C:/raw"


def test_a_drive_of_windows_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_uri("C://photos")
    place = locate("file:///set/out")
    monkeypatch.setattr(stores.os.path, "realpath", lambda path: f"C:{path}".replace("/", "\\"))
    monkeypatch.setattr(stores, "Path", PureWindowsPath)
    assert place.real_path == "C:/set/out"  # below which results are looked for by slashes


@pytest.mark.parametrize(("protocol", "moves"), [("memory", 0), (("s3", "s3a"), 0), ("sftp", 1)])
def test_a_store_that_shows_whole_files_alone_gets_them_at_once(protocol: str | tuple[str, ...], moves: int) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.store, memory.protocol, moved, move = {}, protocol, [], memory.mv
    memory.mv = lambda *names, **options: (moved.append(names), move(*names, **options))
    write(locate("bucket/a.png", fs.PyFileSystem(fs.FSSpecHandler(memory))), b"content")
    assert len(moved) == moves
    assert [bytes(file.getvalue()) for file in memory.store.values()] == [b"content"]


def test_a_name_that_cannot_be_one_is_told_as_any_other() -> None:
    place = locate("a\0b.jpg")
    assert stamp(place) == GONE
    with pytest.raises(ImageError, match="cannot read"):
        read(place)
    with pytest.raises(WriteError, match="cannot write"):
        write(place, b"content")
    with pytest.raises(UsageError, match="cannot look into it"):
        is_there(place)
