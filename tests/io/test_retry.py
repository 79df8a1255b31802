"""Which errors of a download are waited out, and which end it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.utils import get_session

from quantface_core.errors import ModelError
from quantface_core.io import retry as module
from quantface_core.io.catalogue import Remote
from quantface_core.io.hub import fetch
from quantface_core.io.retry import retry
from tests.io.local_hub import LocalHub


class Cancelled(Exception):  # noqa: N818
    """A caller's own."""


def test_a_progress_callback_that_raises_ends_the_download(hub: LocalHub, tmp_path: Path) -> None:
    hub.files["someone/model/model.safetensors"] = bytes(100_000)
    told: list[str] = []
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        raise Cancelled("the user pressed stop")

    with pytest.raises(Cancelled, match="pressed stop"):
        fetch(Remote("someone/model", ("model.safetensors",)), tmp_path / "model.safetensors", told.append, progress)
    assert len(calls) == 1
    assert not (tmp_path / "model.safetensors").exists()


def test_errors_of_whatever_carries_requests_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    carrier = type("CarrierError", (Exception,), {"__module__": type(get_session()).__module__})
    for error in (carrier("cut off"), ConnectionResetError("cut off"), ValueError("cut off: no JSON")):
        tries = []

        def work(error: Exception = error, tries: list[int] = tries) -> None:
            tries.append(1)
            raise error

        with pytest.raises(ModelError, match="cut off"):
            retry(work, "https://huggingface.co/someone/model")
        assert len(tries) == 3


@pytest.mark.parametrize("error", [BrokenPipeError("its window is gone"), ValueError("its own")])
def test_a_callback_s_error_is_its_own_whatever_it_is(hub: LocalHub, tmp_path: Path, error: Exception) -> None:
    hub.files["someone/model/model.safetensors"] = bytes(100_000)
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        raise error

    with pytest.raises(type(error)) as caught:
        fetch(Remote("someone/model", ("model.safetensors",)), tmp_path / "m.safetensors", print, progress)
    assert caught.value is error
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "a.part"), r"^a\.part: cannot use the disk \(Permission denied\)"),
        (OSError(5, "Input/output error"), r"^cannot use the disk \(Input/output error\)"),
    ],
)
def test_the_disk_s_trouble_is_told_at_once_and_as_its_own(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("waited"))

    def work() -> None:
        raise error

    with pytest.raises(ModelError, match=told):
        retry(work, "https://huggingface.co/someone/model")


def test_only_a_download_keeps_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)

    def work() -> None:
        raise ConnectionResetError("cut off")

    with pytest.raises(ModelError, match=r"cut off\): try again, or get it from https"):
        retry(work, "https://huggingface.co/someone/model")
    with pytest.raises(ModelError, match=r"cut off\): try again \(what has arrived is kept\), or get it from https"):
        retry(work, "https://huggingface.co/someone/model", lambda: 3)
