"""A manifest: appended, read again, mended after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.errors import WriteError
from quantface_core.io.manifest import Manifest


def test_the_last_line_on_an_output_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    manifest = Manifest(path)
    manifest.add({"settings": "x", "means": {}})
    for error in ("broken", ""):
        manifest.add({"output": "a.png", "error": error})
    manifest.add({"output": "b.png", "error": ""})
    manifest.close()
    again = Manifest(path)
    assert len(again) == 2
    assert again.get("a.png") == {"output": "a.png", "error": ""}
    assert again.get("c.png") is None
    again.close()


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"output":"a","error":""}\n{"output":"b","err')
    manifest = Manifest(path)
    assert manifest.get("b") is None
    manifest.add({"output": "c", "error": ""})
    manifest.close()
    assert path.read_text() == '{"output":"a","error":""}\n{"output":"c","error":""}\n'


def test_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        Manifest(tmp_path / "file" / "manifest.jsonl")
