"""The real client against a local Hub, and every way it can go wrong."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils
import pytest

from quantface_core.errors import ModelError
from quantface_core.io.catalogue import Remote
from quantface_core.io.hub import fetch, find, locked
from tests.io.local_hub import Fault, LocalHub
from tests.windows import refuse_open_files

# Drops the client that knows the mode it began with; so called from 1.0 on.
_close_session = getattr(huggingface_hub.utils, "close_session", None) or huggingface_hub.utils.reset_sessions
DATA = bytes(range(256)) * 400  # 102,400 bytes
REMOTE = Remote("someone/model", ("model.safetensors",))


@pytest.fixture
def served(hub: LocalHub) -> LocalHub:
    hub.files["someone/model/model.safetensors"] = DATA
    return hub


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.safetensors"


def leftovers(target: Path) -> list[str]:
    """What lies beside the target that is neither it nor its lock."""
    return sorted(p.name for p in target.parent.iterdir() if p != target and not p.name.endswith(".lock"))


def test_a_file_is_fetched_told_verified_and_kept(served: LocalHub, target: Path) -> None:
    told: list[str] = []
    assert fetch(REMOTE, target, told.append) == target
    assert target.read_bytes() == DATA
    assert leftovers(target) == []
    assert told == ["fetching someone/model/model.safetensors: 0.1 MB, licence: openrail++"]
    served.requests.clear()
    fetch(REMOTE, target, told.append)
    assert served.requests == []


def test_the_hub_s_checksum_is_known_beforehand(served: LocalHub) -> None:
    found = find(REMOTE)
    assert (found.size, found.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    served.detailed = False  # then the file's own headers say it
    assert find(REMOTE) == replace(found, blob=found.sha256)


def test_a_folder_that_cannot_be_is_told(served: LocalHub, target: Path) -> None:
    target.parent.write_text("in the way")
    with pytest.raises(ModelError, match=r"cannot write there .* keep the models folder elsewhere"):
        fetch(REMOTE, target, print)


def test_paths_are_tried_in_order_and_bare_names_found_in_any_folder(served: LocalHub, target: Path) -> None:
    served.files["someone/model/deep/other.ckpt"] = b"other"
    fetch(Remote("someone/model", ("gone.safetensors", "other.ckpt", "model.safetensors")), target, print)
    assert target.read_bytes() == b"other"


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_cut_anywhere_is_resumed(served: LocalHub, target: Path, tenth: int) -> None:
    served.fault = Fault(cut_after=tenth * len(DATA) // 10, times=1)
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA
    assert served.sent == len(DATA)  # nothing was sent twice


@pytest.mark.parametrize("tenth", range(10))
def test_what_arrived_before_giving_up_is_kept_for_the_next_run(served: LocalHub, target: Path, tenth: int) -> None:
    served.fault = Fault(cut_after=tenth * len(DATA) // 10)
    with pytest.raises(ModelError, match="what has arrived is kept"):
        fetch(REMOTE, target, print)
    assert not target.exists()
    served.fault, before = Fault(times=0), served.sent
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA
    assert served.sent - before == len(DATA) - tenth * len(DATA) // 10


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "denies access.*hf auth login"),
        (403, "denies access"),
        (404, "no such file or repository"),
        (429, "limits requests"),
        (500, "has a problem"),
        (503, "has a problem"),
    ],
)
def test_refusals_end_in_one_clear_line(served: LocalHub, target: Path, status: int, message: str) -> None:
    served.fault = Fault(status=status)
    with pytest.raises(ModelError, match=message) as caught:
        fetch(REMOTE, target, print)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert leftovers(target) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_out(served: LocalHub, target: Path, status: int) -> None:
    served.fault = Fault(status=status, times=2)
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA


def test_a_wrong_checksum_deletes_the_download(served: LocalHub, target: Path) -> None:
    served.fault = Fault(flip=True)
    with pytest.raises(ModelError, match=r"damaged in transit \(checksum .*deleted"):
        fetch(REMOTE, target, print)
    assert leftovers(target) == []
    served.fault = Fault(times=0)
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA


def test_another_file_than_the_catalogue_expects_is_refused(served: LocalHub, target: Path) -> None:
    with pytest.raises(ModelError, match="is not the file that this version expects"):
        fetch(Remote("someone/model", ("model.safetensors",), sha256="0" * 64), target, print)
    assert leftovers(target) == []


def test_a_wrong_length_is_never_used(served: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_open_files(monkeypatch)
    served.fault = Fault(short=1000)
    with pytest.raises(ModelError):
        fetch(REMOTE, target, print)
    assert leftovers(target) == []  # what lies is not gone on from
    served.fault = Fault(times=0)
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA


def test_a_small_file_is_verified_by_git_s_own_hash(served: LocalHub, target: Path) -> None:
    served.files["someone/model/config.json"] = b"{}"
    remote = Remote("someone/model", ("config.json",))
    served.fault = Fault(flip=True)
    with pytest.raises(ModelError, match="damaged in transit"):
        fetch(remote, target, print)
    served.fault = Fault(times=0)
    assert fetch(remote, target, print).read_bytes() == b"{}"


def test_no_room_is_told_before_anything_is_fetched(
    served: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(ModelError, match="make room, or keep the models folder on another disk"):
        fetch(REMOTE, target, print)
    assert served.downloads() == []


def test_a_disk_that_fills_up_keeps_what_arrived(
    served: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(ModelError, match="the disk is full: make room"):
            fetch(REMOTE, target, print)
    assert not target.exists()
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA


def test_offline_mode_asks_nobody(served: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _close_session()
    try:
        with pytest.raises(ModelError, match="offline mode is on"):
            fetch(REMOTE, target, print)
    finally:
        _close_session()
    assert served.requests == []


def test_the_hub_s_own_cache_is_used_when_its_checksum_is_right(served: LocalHub, target: Path, tmp_path: Path) -> None:
    downloaded = huggingface_hub.hf_hub_download(
        "someone/model", "model.safetensors", endpoint=served.url, cache_dir=huggingface_hub.constants.HF_HUB_CACHE
    )
    served.requests.clear()
    fetch(REMOTE, target, print)
    assert served.requests == []
    assert target.read_bytes() == DATA
    target.unlink()
    Path(downloaded).resolve().write_bytes(b"x" + DATA[1:])
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA
    assert len(served.downloads()) == 1


def test_the_hub_s_cache_is_used_where_there_are_no_symbolic_links(served: LocalHub, target: Path) -> None:
    cached = Path(
        huggingface_hub.hf_hub_download(
            "someone/model", "model.safetensors", endpoint=served.url, cache_dir=huggingface_hub.constants.HF_HUB_CACHE
        )
    )
    cached.unlink()
    cached.write_bytes(DATA)  # as on Windows: the file itself, not a link to one that is named by its checksum
    served.requests.clear()
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA
    assert served.downloads() == []
    target.unlink()
    cached.write_bytes(b"x" + DATA[1:])
    fetch(REMOTE, target, print)
    assert target.read_bytes() == DATA
    assert len(served.downloads()) == 1


def test_the_user_s_token_goes_to_the_hub(served: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(REMOTE, target, print)
    assert {headers.get("authorization") for _, _, headers in served.requests} == {"Bearer hf_secret"}


def _fetch_in_a_process(endpoint: str, target: str, start: object) -> None:
    import os

    os.environ["HF_ENDPOINT"] = endpoint
    start.wait()  # type: ignore[attr-defined]
    fetch(REMOTE, Path(target), print)


def test_two_at_once_do_the_work_once(served: LocalHub, target: Path) -> None:
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=_fetch_in_a_process, args=(served.url, str(target), start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert target.read_bytes() == DATA
    assert len(served.downloads()) == 1


def test_who_waits_is_told(served: LocalHub, target: Path) -> None:
    target.parent.mkdir(parents=True)
    told: list[str] = []
    waiting = threading.Thread(target=lambda: fetch(REMOTE, target, told.append), daemon=True)
    with locked(target, told.append):
        waiting.start()
        while not told:
            pass
    waiting.join(30)
    assert "another process is fetching or building it; waiting" in told[0]
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(DATA).digest()


def test_remains_of_an_older_version_are_cleared(served: LocalHub, target: Path) -> None:
    target.parent.mkdir(parents=True)
    (target.parent / ".model.safetensors.aaaaaaaaaaaa.part").write_bytes(b"old")
    fetch(REMOTE, target, print)
    assert leftovers(target) == []
