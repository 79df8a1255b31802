from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quantface_core.errors import WriteError
from quantface_core.io.atomic import atomic_path, move_into_place, remove_stale, write_text, writing
from tests.windows import refuse_open_files


def test_success_replaces_and_makes_folders(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_new_file_has_the_usual_permissions_whoever_writes_it(tmp_path: Path) -> None:
    """safetensors puts a private file of its own in the temporary one's place."""
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "a.safetensors") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    with atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("text")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
    (tmp_path / "a.safetensors").chmod(0o640)
    with atomic_path(tmp_path / "a.safetensors") as temporary:
        save_file({"a": torch.ones(1)}, temporary)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_of_the_file_system_is_told_as_one_of_writing(tmp_path: Path) -> None:
    """Whether the folder is in the way or the disk is full, and whoever asks."""
    (tmp_path / "file").write_text("in the way")

    def write(target: Path, error: OSError | None = None) -> None:
        with atomic_path(target):
            if error:
                raise error

    with pytest.raises(WriteError, match=r"x\.txt: cannot write"):
        write(tmp_path / "file" / "x.txt")
    with pytest.raises(WriteError, match=r"y\.txt: cannot write .No space left"):
        write(tmp_path / "y.txt", OSError(28, "No space left on device"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    for text in ("first", "second"):  # it is not there at first
        with atomic_path(link) as temporary:
            assert temporary.parent == real.parent
            temporary.write_text(text)
        assert link.is_symlink()
        assert real.read_text() == text


def test_permissions_stay(tmp_path: Path) -> None:
    target = tmp_path / "private.txt"
    target.touch(mode=0o600)
    with atomic_path(target) as temporary:
        temporary.write_text("mine")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permissions of this kind")
def test_a_private_file_s_next_content_is_private_from_the_start(tmp_path: Path) -> None:
    target = tmp_path / "private.txt"
    target.touch(mode=0o600)
    with atomic_path(target) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mask")
def test_a_mask_set_by_a_host_is_followed(tmp_path: Path) -> None:
    """Hosts may set it long after the import."""
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "private.txt", "mine")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private.txt").stat().st_mode) == 0o600
    write_text(tmp_path / "usual.txt", "everybody's")
    assert stat.S_IMODE((tmp_path / "usual.txt").stat().st_mode) == 0o666 & ~before


def test_the_mask_is_never_set_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads' files are open to all"))
    write_text(tmp_path / "file.txt", "text")


def test_a_read_only_result_leaves_nothing_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows neither replaces a read-only file nor removes one."""
    target = tmp_path / "result.txt"
    target.write_text("old")
    target.chmod(0o444)
    replace, unlink = Path.replace, Path.unlink

    def refuse(path: Path) -> None:
        if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(13, "Access is denied", str(path))

    def replace_there(path: Path, other: Path) -> Path:
        refuse(other)
        return replace(path, other)

    def unlink_there(path: Path, *arguments: Any, **keywords: Any) -> None:
        refuse(path)
        unlink(path, *arguments, **keywords)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "replace", replace_there)
    monkeypatch.setattr(Path, "unlink", unlink_there)
    with pytest.raises(WriteError, match=r"result\.txt: cannot write .Access is denied"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("times", [2, 100])
def test_a_file_that_a_scanner_holds_is_moved_once_it_lets_go(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows; one that is held for good is refused, and nothing is left."""
    held, replace, waited = iter(range(times)), Path.replace, list[float]()

    def replace_there(path: Path, other: Path) -> Path:
        if next(held, None) is not None:
            raise PermissionError(13, "Access is denied", str(path), 5, str(other))
        return replace(path, other)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "replace", replace_there)
    monkeypatch.setattr(time, "sleep", waited.append)
    refusal = r"result\.txt: cannot write \(Access is denied\): close it in other programs"
    with nullcontext() if times == 2 else pytest.raises(WriteError, match=refusal):
        write_text(tmp_path / "result.txt", "text")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"] * (times == 2)
    assert len(waited) == min(times, 5)


def test_elsewhere_a_refusal_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits"))
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError):
        move_into_place(tmp_path / "a", tmp_path / "none" / "b")


def test_what_went_wrong_is_told_where_a_half_written_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that is still open, on Windows."""
    refuse_open_files(monkeypatch)

    def write() -> None:
        with atomic_path(tmp_path / "file.txt") as temporary, temporary.open("w") as opened:
            kept.append(os.dup(opened.fileno()))
            raise KeyboardInterrupt

    kept: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        write()
    os.close(kept[0])


def test_an_error_without_a_reason_of_its_own_is_told(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"a\.txt: cannot write .its message"), writing(tmp_path / "a.txt"):
        raise shutil.Error("its message")


def test_what_killed_processes_left_goes_after_a_day(tmp_path: Path) -> None:
    """What may still be written, and what is not ours, stays."""
    names = (".quantface-0123456789abcdef.safetensors", ".quantface-0123456789abcdef")
    recent, theirs = tmp_path / ".quantface-00000000000000ff.png", tmp_path / ".quantface-notes.txt"
    for path in (*(tmp_path / name for name in names), recent, theirs):
        path.touch()
        if path != recent:
            os.utime(path, (0, 0))
    (tmp_path / ".quantface-ffffffffffffffff").mkdir()
    os.utime(tmp_path / ".quantface-ffffffffffffffff", (0, 0))
    remove_stale(tmp_path / "model.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {recent.name, theirs.name, ".quantface-ffffffffffffffff"}
    remove_stale(tmp_path / "not there" / "model.safetensors")
