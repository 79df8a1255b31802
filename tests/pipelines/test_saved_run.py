"""A training run's file: notes come back with the state, and another run's is not resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from quantface_core.errors import ModelError, UsageError, WriteError
from quantface_core.pipelines.saved_run import resume_run, save_run
from quantface_core.train.trainer import Trainer
from tests.train.fitting import COUNT, SETTINGS, fitted, line


def fresh() -> Trainer:
    return Trainer(line()[0], SETTINGS, COUNT)


def test_a_saved_run_resumes_and_returns_its_notes(tmp_path: Path) -> None:
    trainer, _ = fitted(SETTINGS)
    save_run(trainer, tmp_path / "state", "first", {"seconds": "1.5"})
    resumed = fresh()
    assert resume_run(resumed, tmp_path / "state", "first") == {"seconds": "1.5"}
    assert resumed.losses == trainer.losses
    assert resume_run(resumed, tmp_path / "none", "first") is None


def test_another_runs_or_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    save_run(fitted(SETTINGS)[0], tmp_path / "state", "first")
    other = fresh()
    with pytest.raises(UsageError, match="other models, settings or images"):
        resume_run(other, tmp_path / "state", "second")
    (tmp_path / "broken").write_bytes(b"no state")
    with pytest.raises(ModelError, match="broken: damaged"):
        resume_run(other, tmp_path / "broken", "first")
    assert not other.losses


def test_a_full_disk_leaves_the_state_saved_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = fitted(SETTINGS)
    save_run(trainer, tmp_path / "state", "first")

    def full(_: object, path: Path, *__: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("quantface_core.pipelines.saved_run.save_file", full)
    with pytest.raises(WriteError, match=r"state: cannot write .*No space left on device"):
        save_run(trainer, tmp_path / "state", "first")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert resume_run(fresh(), tmp_path / "state", "first") == {}
