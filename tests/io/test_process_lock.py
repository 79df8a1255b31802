"""One process at a time, wherever the file system has locks."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from filelock import FileLock

from quantface_core.errors import ModelError, UsageError
from quantface_core.io import process_lock
from quantface_core.io.hub import locked
from quantface_core.io.process_lock import one_at_a_time, only_process


def test_a_held_lock_refuses_and_is_free_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for _ in range(2):
        with only_process(lock, "held"), pytest.raises(UsageError, match="held"), only_process(lock, "held"):
            pytest.fail("two at once")


def test_who_waits_gets_in_after_the_other(tmp_path: Path) -> None:
    lock, told = FileLock(tmp_path / "lock"), list[str]()
    lock.acquire()

    def wait() -> None:
        told.append("waiting")
        lock.release()

    with one_at_a_time(tmp_path / "lock", wait):
        assert told == ["waiting"]


@pytest.mark.filterwarnings("ignore:flock not supported")  # what filelock says of its own lock instead
@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_not_guarded(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network mounts refuse to lock, each with an error of its own."""
    fcntl = pytest.importorskip("fcntl", reason="Windows always locks")

    def refuse(*_: object) -> None:
        raise OSError(reason, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with only_process(tmp_path / "lock", "held"):
            pass
        with locked(tmp_path / "model.safetensors", pytest.fail):
            pass


def test_a_folder_that_cannot_be_written_is_no_file_system_without_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), only_process(tmp_path / "file" / "lock", "held"):
        pytest.fail("no lock there")
    with pytest.raises(ModelError, match="cannot write there"), locked(tmp_path / "file" / "model", print):
        pytest.fail("no lock there")


def test_nobody_waits_for_a_lock_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows filelock 3 takes a folder without access for a lock that another process holds."""

    class NeverAcquired(FileLock):
        def _acquire(self) -> None:
            pass

    monkeypatch.setattr(process_lock, "FileLock", NeverAcquired)
    (tmp_path / "lock").mkdir()  # cannot be opened either
    with pytest.raises(OSError, match="lock"), one_at_a_time(tmp_path / "lock", lambda: pytest.fail("waits")):
        pytest.fail("no lock there")
