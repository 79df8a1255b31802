"""A manifest: appended, read again, mended after a kill; a file that is none is left as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantface_core.errors import UsageError, WriteError
from quantface_core.io.manifest import Manifest

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
    with pytest.raises(UsageError, match=r"manifest\.jsonl: line \d+ is not of a manifest of QuantFace: move the file"):
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
