"""A worker that is lost with a photo: only that photo is told as failed, however often the others were begun."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quantface_core.errors import QuantFaceError
from quantface_core.io.stores import Place
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import bulk_worker
from quantface_core.pipelines.attempts import Attempts
from quantface_core.pipelines.bulk_plan import BulkPhoto, BulkPlan
from quantface_core.pipelines.bulk_worker import BulkTask, Done, Worker
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult, RestoreRequest

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
ray = pytest.importorskip("ray", reason="needs the extra ray")


class _LostError(BaseException):
    """What a crash of the worker's process is here."""


class _Beside:
    """Attempts as Ray gives them to a worker, asked at once."""

    def __init__(self) -> None:
        self._attempts = Attempts()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._attempts, name))


@pytest.fixture(autouse=True)
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo called deadly.png takes its worker down."""

    def restored(_: Any, request: RestoreRequest, *__: Any) -> Iterator[PhotoResult]:
        for job in request.jobs:
            if job.source.stem == "deadly":
                raise _LostError
            yield PhotoResult(job.source, None, "", 0.0)

    monkeypatch.setattr(bulk_worker, "restore_with", restored)
    monkeypatch.setattr(bulk_worker, "load_for", lambda _: None)
    monkeypatch.setattr(ray, "get", lambda value: value)


def outcomes(*names: str) -> dict[str, str]:
    """Errors of one batch's photos, as Ray restarts the worker until it comes back."""
    photos = [BulkPhoto(0, name, name, None, name) for name in names]
    request = RestoreRequest((), Execution(Path("model.safetensors"), torch.device("cpu")), RestoreOptions())
    task = BulkTask(BulkPlan(Place(None, "out", "out"), [None]), request, "")
    attempts, batch = _Beside(), {"photo": [pickle.dumps(photo) for photo in photos]}
    for _ in range(20):
        try:
            rows = Worker(task, attempts)(batch)["done"]
        except _LostError:
            continue
        done: list[Done] = [pickle.loads(row) for row in rows]
        return {one.photo.name: one.result.error for one in done}
    raise QuantFaceError("the batch never came back")


@pytest.mark.parametrize("names", [("a.png", "b.png", "deadly.png", "c.png"), ("deadly.png", "a.png"), ("a.png",)])
def test_only_the_photo_that_takes_its_worker_down_fails(names: tuple[str, ...]) -> None:
    told = outcomes(*names)
    assert list(told) == list(names)
    assert {name for name, error in told.items() if error} == {"deadly.png"} & set(names)


def test_two_deadly_photos_of_a_batch_are_both_found() -> None:
    told = outcomes("a.png", "deadly.png", "b.png", "x/deadly.png", "c.png")
    assert {name for name, error in told.items() if error} == {"deadly.png", "x/deadly.png"}
