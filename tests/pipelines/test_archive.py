"""An archive restored side by side, stopped, and gone on with: every result equal to a plain loop's."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.faces.boxes import face_in_box
from quantface_core.io.atomic import atomic_path
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import restore as pipeline
from quantface_core.pipelines.archive import restore_archive
from quantface_core.pipelines.callbacks import PipelineCallbacks
from quantface_core.pipelines.jobs import find_photos, plan_jobs
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult, RestoreRequest, restore
from quantface_core.pipelines.restore_file import FileRequest, restore_file
from quantface_core.types import Face, Pixels
from tests.stages.flicker import Flicker

COUNT, BROKEN = 12, (3, 7)


class Middle:
    """Finds a face in the middle of every picture, whatever thread asks."""

    def __call__(self, pixels: Pixels) -> tuple[Face, ...]:
        height, width = pixels.shape[:2]
        return (replace(face_in_box((width / 4, height / 4, width / 2, height / 2)), score=0.9),)


@pytest.fixture(autouse=True)
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "load_for", lambda _: Flicker())
    monkeypatch.setattr(pipeline, "_Detectors", Middle)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Nested folders of small photos, two of them broken."""
    folder, draws = tmp_path / "in", np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / f"y{number % 3}" / f"m{number % 2}" / f"{number}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (60 + number, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if number in BROKEN:
            path.write_bytes(path.read_bytes()[:100])
    return folder


def asked(archive: Path, output: Path, compare: bool = False, **options: Any) -> RestoreRequest:
    model = archive.parent / "model.safetensors"
    model.write_bytes(b"a model's bytes")
    jobs = plan_jobs(find_photos([str(archive)], recursive=True), output, compare)
    chosen = RestoreOptions(**{"strength": 1.0, **options})
    return RestoreRequest(jobs, Execution(model, torch.device("cpu")), chosen)


def made(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def records(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    return [line for line in lines if "output" in line]


@pytest.fixture
def looped(archive: Path, tmp_path: Path) -> dict[str, bytes]:
    """What one photo after the other gives."""
    for job in asked(archive, tmp_path / "looped").jobs:
        try:
            restore_file(FileRequest(job, Flicker(), Middle(), RestoreOptions(strength=1.0)))  # type: ignore[arg-type]
        except Exception:
            continue
    return made(tmp_path / "looped")


def test_side_by_side_gives_what_a_loop_gives_in_order(archive: Path, tmp_path: Path, looped: dict[str, bytes]) -> None:
    request = asked(archive, tmp_path / "out")
    results = list(restore(request))
    assert [result.source for result in results] == [job.source for job in request.jobs]
    assert sum(bool(result.error) for result in results) == len(BROKEN)
    assert all(str(result.source) in result.error for result in results if result.error)
    assert made(tmp_path / "out") == looped
    assert len(looped) == COUNT - len(BROKEN)


def test_few_photos_are_in_memory(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, counts = threading.Lock(), {"now": 0, "most": 0}
    read, write = pipeline.read_file, pipeline.write_file

    def reading(*arguments: Any) -> Any:
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        return read(*arguments)

    def writing(*arguments: Any) -> Any:
        try:
            return write(*arguments)
        finally:
            with lock:
                counts["now"] -= 1

    monkeypatch.setattr(pipeline, "read_file", reading)
    monkeypatch.setattr(pipeline, "write_file", writing)
    list(restore(asked(archive, tmp_path / "out")))
    # Broken ones are counted too, for they are never written.
    assert counts["most"] <= pipeline._AHEAD + 1 + pipeline._BEHIND + 1 + len(BROKEN)


def test_a_stopped_run_goes_on_and_does_nothing_twice(archive: Path, tmp_path: Path, looped: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    stopping: Iterator[PhotoResult] = restore_archive(asked(archive, out), out)
    for _ in range(4):
        next(stopping)
    stopping.close()  # type: ignore[attr-defined]
    # As kill -9 leaves it: a torn line, and a result that no line tells of.
    (out / "manifest.jsonl").open("a").write('{"output":"y0/m')
    with atomic_path(out / "y2" / "m1" / "11.png") as temporary:
        temporary.write_bytes(b"of a killed run, unknown to the manifest")
    told: list[str] = []
    rest = list(restore_archive(asked(archive, out), out, PipelineCallbacks(notify=told.append)))
    assert made(out) == looped
    assert any("photos are done already" in line for line in told)
    assert len(rest) < COUNT
    good = [record for record in records(out) if not record["error"]]
    assert sorted(record["output"] for record in good) == sorted(looped)  # each once
    assert {Path(record["output"]).stem for record in records(out) if record["error"]} == {"3", "7"}
    assert not list(out.rglob(".quantface-*"))


def test_what_changed_is_done_again_and_nothing_else(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(restore_archive(asked(archive, out), out))

    def again(**options: Any) -> set[str]:
        results = restore_archive(asked(archive, out, **options), out)
        return {result.source.stem for result in results if not result.error}

    assert again() == set()
    touched = archive / "y0" / "m0" / "0.jpg"
    os.utime(touched, ns=(1, 1))  # the same bytes at another time
    assert again() == set()
    Image.fromarray(np.full((70, 80, 3), 99, np.uint8)).save(archive / "y1" / "m0" / "4.jpg")
    (out / "y0" / "m0" / "6.jpg").unlink()
    assert again() == {"4", "6"}
    everything = {str(n) for n in range(COUNT) if n not in BROKEN}
    assert again(color="none") == everything
    (archive.parent / "model.safetensors").write_bytes(b"a model's bytes")
    assert again(color="none") == set()


@pytest.mark.parametrize("compare", [False, True])
def test_results_that_were_there_before_are_left_ever_after(compare: bool, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    target = out / "y0" / "m0" / "0.jpg"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"made by other means")
    list(restore_archive(asked(archive, out), out))
    for name in ("1.jpg", "2.jpg"):  # photos that come later
        Image.fromarray(np.full((70, 80, 3), 99, np.uint8)).save(archive / name)
        list(restore_archive(asked(archive, out, compare), out))
        assert target.read_bytes() == b"made by other means"
    target.unlink()
    list(restore_archive(asked(archive, out), out))
    assert Image.open(target).size == (80, 60)


def test_a_killed_run_s_results_are_not_taken_for_another_s(archive: Path, tmp_path: Path) -> None:
    """It was killed with its first result written, of which no line tells."""
    out = tmp_path / "out"
    target = out / "y0" / "m0" / "0.jpg"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"of a killed run, unknown to the manifest")
    (out / "manifest.jsonl").write_text('{"settings":"other than now","means":{}}\n')
    list(restore_archive(asked(archive, out), out))
    assert Image.open(target).size == (80, 60)


def test_a_photo_that_cannot_be_read_does_not_end_the_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive / "y0" / "m0")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as unreadable:
        unreadable.bind("00.jpg")
        out = tmp_path / "out"
        results = list(restore_archive(asked(archive, out), out))
        assert len(results) == COUNT + 1
        failed = {result.source.name for result in results if result.error}
        assert failed == {"00.jpg", "3.png", "7.png"}
        (record,) = (record for record in records(out) if record["output"] == "y0/m0/00.jpg")
        assert record["error"]
        assert record["sha256"] == ""


def test_the_digest_is_of_what_was_read(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, photo = tmp_path / "out", archive / "y0" / "m0" / "0.jpg"
    before, read = hashlib.sha256(photo.read_bytes()).hexdigest(), pipeline.read_file

    def changed_once_read(request: FileRequest) -> Any:
        found = read(request)
        if request.job.source == photo:
            Image.fromarray(np.full((70, 80, 3), 99, np.uint8)).save(photo)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "read_file", changed_once_read)
        list(restore_archive(asked(archive, out), out))
    assert {record["output"]: record["sha256"] for record in records(out)}["y0/m0/0.jpg"] == before
    again = {result.source for result in restore_archive(asked(archive, out), out) if not result.error}
    assert again == {photo}


def test_what_a_killed_run_left_beside_results_is_removed(archive: Path, tmp_path: Path) -> None:
    jobs = plan_jobs(find_photos([str(archive)], recursive=True), tmp_path / "out", False)
    left = jobs[-1].target.with_name(".quantface-0123456789abcdef.png")
    fresh = left.with_name(".quantface-0123456789abcdee.png")
    left.parent.mkdir(parents=True)
    for path in (left, fresh):
        path.touch()
    os.utime(left, (0, 0))
    request = RestoreRequest(jobs[-1:], Execution(tmp_path / "no model", torch.device("cpu")), RestoreOptions())
    assert [result.error for result in restore(request)] != [None]
    assert not left.exists()
    assert fresh.exists()  # another process may be writing it
