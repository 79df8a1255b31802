"""A manifest: appended, read again, mended after a kill; a file that is none is left as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from quantface_core.errors import UsageError, WriteError
from quantface_core.io.manifest import Manifest
from quantface_core.pipelines.jobs import find_photos

SETTINGS = {"settings": "x", "means": {}}


def result(output: str, error: str = "") -> dict[str, Any]:
    return {"output": output, "settings": "x", "size": 1, "mtime_ns": 2, "sha256": "3", "error": error}


def lines(*records: Any) -> str:
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


def test_the_last_line_on_an_output_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    manifest = Manifest(path)
    manifest.add(SETTINGS)
    for error in ("broken", ""):
        manifest.add(result("a.png", error))
    manifest.add({"output": "b.png", "foreign": True})
    manifest.close()
    again = Manifest(path)
    assert again.get("a.png") == result("a.png")
    assert again.get("b.png") == {"output": "b.png", "foreign": True}
    assert again.get("c.png") is None
    again.close()


def test_a_run_has_begun_once_its_settings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest = Manifest(path)
    manifest.add({"output": "b.png", "foreign": True})
    assert not manifest.begun
    manifest.add(SETTINGS)
    assert manifest.begun
    manifest.close()
    again = Manifest(path)
    assert again.begun
    again.close()


@pytest.mark.parametrize("torn", ['{"output":"b","err', '{"out', "\0\0\0"])
def test_a_torn_line_is_cut_off(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(lines(result("a")) + torn)
    manifest = Manifest(path)
    assert manifest.get("b") is None
    manifest.add(result("c"))
    manifest.close()
    assert path.read_text() == lines(result("a"), result("c"))


@pytest.mark.parametrize("torn", ["{", '{"settings":"0a1b', lines(result("a"))[:-1]])
def test_a_first_line_may_be_torn_too(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(torn)
    Manifest(path).close()
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "content",
    [
        "photos of 1987\n",
        lines(["a.png"]),
        lines({"image": "a.png", "split": "train"}),
        lines({"output": ["x"]}),
        lines({"output": "a.png", "prompt": "a portrait"}),
        lines({"settings": "x"}),
        lines(SETTINGS, result("a")) + "\n" + lines(result("b")),
        lines(SETTINGS, result("a")) + '{"output":"b","er\n' + lines(result("c")),
        "no newline",
        '{"output": "a.png", "label": 1}',
        "[" * 100_000 + "\n",
        lines(SETTINGS) + "\u00e9\n",
    ],
)
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(content, encoding="latin-1")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"manifest\.jsonl: line \d+ does not belong to a QuantFace manifest: move"):
        Manifest(path)
    assert path.read_bytes() == before


def test_a_file_of_another_kind_is_called_as_the_user_does(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("something else\n")
    with pytest.raises(UsageError, match=r"^s3://bucket/manifest\.jsonl: line 1"):
        Manifest(tmp_path / "manifest.jsonl", "s3://bucket/manifest.jsonl")


def test_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        Manifest(tmp_path / "file" / "manifest.jsonl")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second would cut off what the first is just writing."""
    path = tmp_path / "manifest.jsonl"
    first = Manifest(path)
    first.add(SETTINGS)
    with path.open("a") as half:
        half.write('{"output":"b","sett')
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"manifest\.jsonl: another process is working on this folder: wait for it"):
        Manifest(path)
    assert path.read_bytes() == before
    first.close()
    Manifest(path).close()
    assert path.read_text() == lines(SETTINGS)


def test_a_file_that_is_refused_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text("something else\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="line 1 does not belong to a QuantFace manifest"):
            Manifest(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    code = (
        "import os, sys, pathlib; from quantface_core.io.manifest import Manifest\n"
        "held = Manifest(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    Manifest(path).close()


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockless(_: FileLock, *__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", lockless)
    Manifest(tmp_path / "manifest.jsonl").close()


def test_the_lock_is_no_picture(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    (tmp_path / "a.png").touch()
    assert find_photos([str(tmp_path)], recursive=True).photos == [tmp_path / "a.png"]
    manifest.close()


def test_a_whole_file_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(lines(SETTINGS))
    monkeypatch.setattr(os, "truncate", lambda *_: pytest.fail("nothing is torn"))
    Manifest(path).close()


def test_a_full_disk_is_told_once_and_its_record_is_not_known(tmp_path: Path) -> None:
    """The process is one of its own, for its files may not grow."""
    code = """
import pathlib, resource, signal, sys
from quantface_core.errors import WriteError
from quantface_core.io.manifest import Manifest
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
manifest = Manifest(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    manifest.add({"output": "a.png", "foreign": True})
except WriteError as error:
    print(error)
manifest.close()
assert manifest.get("a.png") is None
"""
    pytest.importorskip("resource", reason="needs a limit of files")
    path = str(tmp_path / "manifest.jsonl")
    told = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], capture_output=True)
    assert told.returncode == 0, told.stderr
    assert b"manifest.jsonl: cannot write (File too large)" in told.stdout
