"""What counts as done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quantface_core.errors import ModelError
from quantface_core.io.manifest import Manifest
from quantface_core.io.stores import Stamp
from quantface_core.options import RestoreOptions
from quantface_core.pipelines.done import is_done, is_foreign, keep_foreign, record_of, settings_key, settings_of
from quantface_core.pipelines.jobs import Origin
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult

KNOWN = record_of(PhotoResult("in/a.png", None, "", 1.0, Origin(Stamp(7, 100), "digest")), "a.png", "key")


def test_the_same_photo_and_settings_are_done() -> None:
    assert is_done(KNOWN, "in/a.png", "key", Stamp(7, 100), lambda: "")
    assert is_done(KNOWN, "in/a.png", "key", Stamp(7, 200), lambda: "digest")
    assert not is_done(KNOWN, "in/a.png", "key", Stamp(7, 200), lambda: "another")
    assert not is_done(KNOWN, "in/a.png", "key", Stamp(8, 100), lambda: "digest")
    assert not is_done(KNOWN, "in/a.png", "other settings", Stamp(7, 100), lambda: "digest")
    assert not is_done({**KNOWN, "error": "broken"}, "in/a.png", "key", Stamp(7, 100), lambda: "digest")


def test_a_store_without_times_compares_contents() -> None:
    assert not is_done({**KNOWN, "mtime_ns": 0}, "in/a.png", "key", Stamp(7, 0), lambda: "another")


@pytest.mark.parametrize(
    "changes",
    [
        {"device": torch.device("cuda")},
        {"backend": "reference"},
        {"precision": "bfloat16"},
        {"low_memory": True},
        {"threads": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_results_depend_on_all_of_the_execution(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    execution = Execution(tmp_path / "model.safetensors", torch.device("cpu"))
    keys = {settings_key(settings_of(one, RestoreOptions())) for one in (execution, replace(execution, **changes))}
    assert len(keys) == 2


def test_results_depend_on_repairs(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    execution = Execution(tmp_path / "model.safetensors", torch.device("cpu"))
    made = [settings_of(execution, RestoreOptions(), scratches=scratches) for scratches in (False, True)]
    assert settings_key(made[0]) != settings_key(made[1])


def test_a_stamp_of_another_folder_s_photo_is_not_enough() -> None:
    assert is_done(KNOWN, "moved/a.png", "key", Stamp(7, 100), lambda: "digest")
    assert not is_done(KNOWN, "other/a.png", "key", Stamp(7, 100), lambda: "another")


def test_a_photo_that_could_not_be_fetched_is_recorded_without_its_origin() -> None:
    record = record_of(PhotoResult("in/a.png", None, "in/a.png: gone", 0.5), "a.png", "key")
    assert (record["source"], record["size"], record["mtime_ns"], record["sha256"]) == ("in/a.png", 0, 0, "")


def test_a_photo_that_cannot_be_read_is_not_done() -> None:
    def digest() -> str:
        raise ModelError("a.png: cannot read (Input/output error)")

    assert not is_done(KNOWN, "in/a.png", "key", Stamp(7, 200), digest)


@pytest.mark.parametrize("begun", [False, True])
def test_what_lay_there_before_the_first_run_is_foreign(begun: bool, tmp_path: Path) -> None:
    for _ in range(2):
        manifest = Manifest(tmp_path / "manifest.jsonl")
        if begun:
            manifest.add({"settings": "key", "means": {}})
        keep_foreign(manifest, ["a.png", "b.png"])
        assert [is_foreign(manifest.get(name) or {}) for name in ("a.png", "b.png", "c.png")] == [
            not begun,
            not begun,
            False,
        ]
        manifest.close()
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 2
