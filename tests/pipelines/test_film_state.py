"""The state of an unfinished film: held by one process, checked before it is used, removed where a start fails."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("av")

from quantface_core.errors import UsageError, WriteError
from quantface_core.pipelines import film_state
from quantface_core.pipelines.film_state import FilmState, FrameDetections, check_resumable, state_folder

NOTHING = FrameDetections(0, False, (), ())


def unfinished(folder: Path) -> Path:
    """The state of a film of which one frame was detected."""
    state = FilmState(folder, {"smoothing": 2.0}, resume=False)
    state.append(NOTHING)
    state.close()
    return folder


def test_a_state_holds_what_was_detected(tmp_path: Path) -> None:
    state = FilmState(unfinished(tmp_path / "state"), {"smoothing": 2.0}, resume=True)
    assert not state.is_new
    assert state.frames_detected == 1
    assert list(state.detections()) == [NOTHING]
    state.remove()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_mended(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "state")
    with (folder / "found.jsonl").open("a") as file:
        file.write(NOTHING.to_line()[:-2])
    (folder / ".quantface-draft").touch()
    state = FilmState(folder, {"smoothing": 2.0}, resume=True)
    assert state.frames_detected == 1
    state.append(NOTHING)
    assert list(state.detections()) == [NOTHING] * 2
    assert not (folder / ".quantface-draft").exists()
    state.close()


def test_settings_are_compared_as_json_has_them(tmp_path: Path) -> None:
    for resume in (False, True):
        FilmState(tmp_path / "state", {"faces": (0, 2)}, resume).close()


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_only_what_is_not_finished_is_resumed(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    (output if "." in name else output / "f_1.png").parent.mkdir(exist_ok=True)
    check_resumable(output)  # nothing begun yet
    (output if "." in name else output / "f_1.png").touch()
    with pytest.raises(UsageError, match="no stopped run to continue"):
        check_resumable(output)
    unfinished(state_folder(output))
    check_resumable(output)


def test_a_run_is_resumed_only_if_asked_and_with_its_settings(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "state")
    with pytest.raises(UsageError, match="holds an unfinished run"):
        FilmState(folder, {"smoothing": 2.0}, resume=False)
    with pytest.raises(UsageError, match="begun with another crf, smoothing"):
        FilmState(folder, {"smoothing": 1.0, "crf": 20}, resume=True)
    assert len(list(folder.iterdir())) >= 2


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("smoothing", [1.0, 2.0])
def test_a_film_in_work_is_another_process_s_whatever_is_asked(tmp_path: Path, resume: bool, smoothing: float) -> None:
    """The advice to delete an unfinished run would end the other one."""
    state = FilmState(tmp_path / "state", {"smoothing": 2.0}, resume=False)
    with pytest.raises(UsageError, match="another process is working on this film"):
        FilmState(tmp_path / "state", {"smoothing": smoothing}, resume)
    state.append(NOTHING)
    state.close()


def test_a_start_that_fails_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise WriteError("the disk is full")

    monkeypatch.setattr(film_state, "write_text", full)
    with pytest.raises(WriteError, match="the disk is full"):
        FilmState(tmp_path / "state", {}, resume=False)
    assert not list(tmp_path.iterdir())


def test_settings_that_are_not_a_film_s_are_told(tmp_path: Path) -> None:
    (unfinished(tmp_path / "state") / "settings.json").write_text("[1]")
    with pytest.raises(UsageError, match="is not the state of a film"):
        FilmState(tmp_path / "state", {}, resume=True)


def test_damaged_detections_are_told(tmp_path: Path) -> None:
    (unfinished(tmp_path / "state") / "found.jsonl").write_text("[1, 0]\n")
    state = FilmState(tmp_path / "state", {"smoothing": 2.0}, resume=True)
    with pytest.raises(UsageError, match="is damaged: delete it"):
        list(state.detections())
    state.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk to write to")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    state = FilmState(tmp_path / "state", {}, resume=False)
    state.close()
    state._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(WriteError, match="No space left"):
        state.append(NOTHING)
    with suppress(OSError):
        state._file.close()


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    FilmState(tmp_path / "state", {}, resume=False).close()
    (tmp_path / "state" / "found.jsonl").unlink()
    (tmp_path / "state" / "found.jsonl").mkdir()
    with pytest.raises(WriteError, match="cannot write"):
        FilmState(tmp_path / "state", {}, resume=True)
