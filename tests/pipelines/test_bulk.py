"""Photos of a store restored by Ray's workers on this machine: each once, as one process does, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.errors import UsageError
from quantface_core.io.checkpoint import save_restorer
from quantface_core.io.stores import GONE, Place, locate, read, stamp, write
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import bulk as bulk_module
from quantface_core.pipelines.archive import MANIFEST
from quantface_core.pipelines.bulk import BulkRequest
from quantface_core.pipelines.bulk import _pending as pending
from quantface_core.pipelines.bulk import _workers as workers_of
from quantface_core.pipelines.bulk_manifest import open_manifest
from quantface_core.pipelines.bulk_plan import BulkPlan, plan_bulk
from quantface_core.pipelines.done import record_of
from quantface_core.pipelines.jobs import find_photos, plan_jobs
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult, RestoreRequest, restore
from quantface_core.restorer import OneStepRestorer

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
from pyarrow import fs  # noqa: E402

COUNT, BROKEN = 10, 4


class SilentOnce:
    """A store that does not answer the first question."""

    def __init__(self, store: Any) -> None:
        self._store, self._asked = store, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_file_info(self, what: Any) -> Any:
        if not self._asked:
            self._asked = True
            raise OSError("timed out")
        return self._store.get_file_info(what)


@pytest.fixture
def folder(tmp_path: Path, test_faces: list[Path]) -> Path:
    """Small portraits in nested folders, one broken."""
    for number in range(COUNT):
        path = tmp_path / "in" / f"y{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(test_faces[number]).resize((160, 160)).save(path)
        if number == BROKEN:
            path.write_bytes(path.read_bytes()[:99])
    return tmp_path / "in"


def made(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def names(sources: list[str], output: str, **options: Any) -> list[str]:
    return [photo.name for photo in plan_bulk(sources, output, **options).photos]


def test_folders_uris_and_tables_lead_to_the_same_photos(folder: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    wanted = [f"y{n % 2}/{n}.png" for n in (*range(0, COUNT, 2), *range(1, COUNT, 2))]
    assert names([str(folder)], output, recursive=True) == wanted
    assert names([folder.as_uri()], output, recursive=True) == wanted
    in_jpeg = [name.replace(".png", ".jpg") for name in wanted]
    assert names([str(folder)], output, recursive=True, suffixes=(".jpg", ".jpeg")) == in_jpeg
    table = folder / "photos.csv"
    table.write_text("who,path\n" + "".join(f"x,{name}\n" for name in wanted) + f"x,{folder.as_uri()}/y0/0.png\n")
    assert names([str(table)], output) == wanted
    lines = tmp_path / "photos.jsonl"
    lines.write_text("".join(json.dumps({"where": str(folder / name)}) + "\n" for name in wanted))
    assert names([str(lines)], output, column="where") == [f"in/{name}" for name in wanted]
    with pytest.raises(UsageError, match="has no column 'path': it has where"):
        plan_bulk([str(lines)], output)
    with pytest.raises(UsageError, match="would overwrite a source"):
        plan_bulk([folder.as_uri()], str(folder), recursive=True)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="no photos found"):
        plan_bulk([(tmp_path / "nothing").as_uri()], output)


def test_any_pyarrow_file_system_is_read_and_written(tmp_path: Path) -> None:
    for store in (fs._MockFileSystem(), fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())):
        place = Place(store, "a/b/c.bin", "x://a/b/c.bin")
        write(place, b"content")
        assert read(place) == b"content"
        assert stamp(place).size == 7
        assert len(store.get_file_info(fs.FileSelector("a/b"))) == 1  # no draft is left
        write(Place(store, "a/p.jpg", ""), b"")
        assert [photo.path for photo in plan_bulk(["a"], "out", store=store).photos] == ["a/p.jpg"]
    with pytest.raises(UsageError, match="no store that can be reached"):
        locate("nonsense://bucket/photo.jpg")


SETTINGS = {"settings": "key", "means": {}}


def left(name: str) -> dict[str, Any]:
    return {"output": name, "foreign": True}


def told_in(output: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(output / MANIFEST).splitlines()]


def test_a_store_keeps_the_manifest_too() -> None:
    """Stores cannot append: the driver writes it whole."""
    output = Place(fs._MockFileSystem(), "out", "mock://out")
    for number in range(2):
        with open_manifest(output) as manifest:
            assert (manifest.get("0.png") is None) == (number == 0)
            manifest.add(left(f"{number}.png"))
    assert told_in(output) == [left("0.png"), left("1.png")]


def test_a_store_is_told_at_once_that_a_run_begins() -> None:
    """What a run that is killed then leaves is known as its own."""
    output = Place(fs._MockFileSystem(), "out", "mock://out")
    with open_manifest(output) as manifest:
        manifest.add(SETTINGS)
        assert told_in(output) == [SETTINGS]


def test_a_store_that_does_not_answer_keeps_its_manifest() -> None:
    output = Place(fs._MockFileSystem(), "out", "mock://out")
    with open_manifest(output) as manifest:
        manifest.add(left("0.png"))
    silent = replace(output, store=SilentOnce(output.store))
    with pytest.raises(UsageError, match="timed out"), open_manifest(silent):
        raise UsageError("refused")
    assert told_in(output) == [left("0.png")]


def test_a_run_that_does_nothing_writes_nothing() -> None:
    output = Place(fs._MockFileSystem(), "out", "mock://out")
    with pytest.raises(UsageError, match="refused"), open_manifest(output):
        raise UsageError("refused")
    assert stamp(output / MANIFEST) == GONE


def test_a_store_s_file_that_is_no_manifest_is_left() -> None:
    output = Place(fs._MockFileSystem(), "out", "mock://out")
    write(output / MANIFEST, b"something else\n")
    with pytest.raises(UsageError, match=r"^mock://out/manifest\.jsonl: line 1 "), open_manifest(output):
        pass
    assert read(output / MANIFEST) == b"something else\n"


@pytest.mark.parametrize("compare", [False, True])
def test_results_that_were_there_before_are_left_ever_after(compare: bool) -> None:
    store = fs._MockFileSystem()
    for path in ("in/a.png", "in/b.png", "out/a.png"):
        write(Place(store, path, ""), b"a picture")
    for asks_to_compare in (False, compare):
        plan = plan_bulk(["in"], "out", compare=asks_to_compare, store=store)
        with open_manifest(plan.output) as manifest:
            assert [photo.name for photo in pending(plan, manifest, "key")] == ["b.png"]
            manifest.add(SETTINGS)
            manifest.add(record_of(PhotoResult("in/b.png", None, "broken", 0.0), "b.png", "key"))


def test_what_is_missing_is_told_in_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "s3://bucket/photos", "-o", str(tmp_path / "out")]) == 2
    assert "stores are read and written with --ray" in capsys.readouterr().err
    assert main(["restore", str(folder), "--actors", "2"]) == 2
    pytest.importorskip("ray.data", reason="needs the extra ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert main(["restore", str(folder), "-r", "--ray", address, "-o", str(tmp_path / "out")]) == 2
        assert "nothing answers there" in capsys.readouterr().err
        assert main(["restore", str(folder), "-r", "--ray", address, "-o", "mock://out"]) == 2
        assert "nothing answers there" in capsys.readouterr().err
    assert not (tmp_path / "out" / "y0").exists()


def test_what_cannot_go_with_ray_is_refused_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    photo, out = folder / "y0" / "0.png", tmp_path / "out"
    before = photo.read_bytes()
    (table := tmp_path / "list.csv").write_text(f"path\n{photo}\n")
    command = ["restore", "--ray", "local", "-r", "-o", str(out)]
    for sources, report in ((folder, photo), (folder, out / "y0" / "0.png"), (table, photo), (table, table)):
        assert main([*command, str(sources), "--json", str(report)]) == 2
        assert "would overwrite a file that is read or written here" in capsys.readouterr().err
    assert photo.read_bytes() == before
    for films in (["film.mp4"], [str(folder), "--resume"], [str(folder), "--from", "1"]):
        assert main([*command, *films]) == 2
        assert "--ray is for photos" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two processors' worth of Ray, however many there are, for all tests."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def workers() -> list[int]:
    """Workers that this process's Ray started and that live."""
    return [pid for pid in descendants(os.getpid()) if b"ray::MapWorker" in told_by_system(pid, "cmdline")]


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    threads = [task.name for task in tasks.iterdir()] if tasks.exists() else []
    children = [int(child) for thread in threads for child in told_by_system(pid, f"task/{thread}/children").split()]
    return children + [below for child in children for below in descendants(child)]


def told_by_system(pid: int, name: str) -> bytes:
    """A file of a process; empty once that, or its thread, has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_killed_worker_loses_nothing_and_results_are_one_process_s(
    cluster: None, folder: Path, tmp_path: Path, tiny: OneStepRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantface_core.pipelines.bulk import BulkRequest, restore_bulk

    model = tmp_path / "tiny.safetensors"
    save_restorer(tiny, model)
    request = RestoreRequest((), Execution(model, torch.device("cpu"), threads=1), RestoreOptions(strength=1.0))
    one, many = tmp_path / "one", tmp_path / "many"
    before = torch.get_num_threads()
    jobs = plan_jobs(find_photos([str(folder)], recursive=True), one, compare=False)
    list(restore(replace(request, jobs=jobs)))
    torch.set_num_threads(before)

    bulk = BulkRequest(plan_bulk([folder.as_uri()], str(many), recursive=True), request, actors=2)
    results = []
    for result in restore_bulk(bulk):
        if not results:
            os.kill(workers()[0], signal.SIGKILL)
        results.append(result)
    assert len(results) == len({result.source for result in results}) == COUNT
    assert [result.source for result in results if result.error] == [f"{folder.as_uri()}/y0/{BROKEN}.png"]
    assert made(many) == made(one)
    assert len(made(many)) == COUNT - 1
    lines = [json.loads(line) for line in (many / "manifest.jsonl").read_text().splitlines()]
    told = sorted(line["output"] for line in lines if "output" in line)
    assert told == sorted(job.target.relative_to(one).as_posix() for job in jobs)
    assert not list(many.rglob(".quantface-*"))

    (many / "y1" / "3.png").unlink()
    sent: list[str] = []
    monkeypatch.setattr(bulk_module, "_run_workers", lambda _, photos: iter(sent.extend(p.name for p in photos) or ()))
    again = list(restore_bulk(replace(bulk, skip_existing=True)))
    assert sorted(sent) == [f"y0/{BROKEN}.png", "y1/3.png"]
    assert sorted(str(result.source) for result in again) == [f"{folder.as_uri()}/{name}" for name in sorted(sent)]
    assert all("Ray returned nothing" in result.error for result in again)


@pytest.mark.parametrize(
    ("threads", "gpus", "message"),
    [
        (8, 0, "threads 8: the largest machine of the cluster has 4 CPUs"),
        (2, 2, "gpus 2: the largest machine of the cluster has 1"),
        (4, 0.5, ""),
        (None, 0, ""),
    ],
)
def test_what_no_machine_has_is_refused_where_ray_would_wait_for_ever(
    threads: int | None, gpus: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: nodes))
    execution = Execution(Path(__file__), torch.device("cpu"), threads=threads)
    asked = BulkRequest(BulkPlan(locate("out")), RestoreRequest((), execution, RestoreOptions()), gpus=gpus)
    if message:
        with pytest.raises(UsageError, match=message):
            workers_of(asked)
    else:
        assert workers_of(asked) == (2, threads or 2)
