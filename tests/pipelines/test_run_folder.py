"""A run's own folder: the same for the same run, kept for a week where it was stopped, gone once it is finished."""

from __future__ import annotations

import copy
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quantface_core.errors import WriteError
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.pipelines.checksums import source_sha256, weights_sha256
from quantface_core.pipelines.distill import DistillRequest, distill
from quantface_core.pipelines.models import LoadedModel
from quantface_core.pipelines.quantize import QuantizeRequest, quantize
from quantface_core.pipelines.run_folder import run_folder
from quantface_core.restorer import OneStepRestorer
from quantface_core.types import RestorerDistillConfig, TrainerConfig
from tests.conftest import FAST

IDENTITY, OTHER = "0" * 64, "1" * 64
FACES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def stopped(runs: Path, identity: str, *files: str) -> Path:
    with suppress(KeyboardInterrupt), run_folder(runs, identity) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).write_bytes(b"saved")
        raise KeyboardInterrupt
    return folder


def test_a_stopped_run_finds_what_it_saved_and_a_finished_one_leaves_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = stopped(runs, IDENTITY, "state.safetensors", "faces.png")
    block = stopped(runs, OTHER, "unet.mid_block.state.safetensors")
    with run_folder(runs, IDENTITY) as again:
        assert again == folder
        assert (again / "state.safetensors").read_bytes() == b"saved"
    assert not folder.exists()
    assert block.exists()
    with run_folder(runs, OTHER):
        pass
    assert not runs.exists()


def test_a_run_without_a_saved_state_leaves_nothing(tmp_path: Path) -> None:
    stopped(tmp_path / "runs", IDENTITY, "faces.png")
    assert not (tmp_path / "runs").exists()


def test_a_run_stopped_a_week_ago_is_forgotten(tmp_path: Path) -> None:
    old = stopped(tmp_path, IDENTITY, "state.safetensors")
    new = stopped(tmp_path, OTHER, "state.safetensors")
    week = time.time() - 8 * 24 * 60 * 60
    os.utime(old / "state.safetensors", (week, week))
    stopped(tmp_path, "2" * 64)
    assert not old.exists()
    assert new.exists()


def test_what_is_no_runs_folder_is_left_alone(tmp_path: Path) -> None:
    """A caller may name a folder that has others in it."""
    others = [tmp_path / name for name in ("photos", "0123", IDENTITY[:16] + ".old")]
    for folder in others:
        folder.mkdir()
        (folder / "photo.png").write_bytes(b"photo")
    with run_folder(tmp_path, OTHER):
        pass
    assert all((folder / "photo.png").exists() for folder in others)


@pytest.fixture(scope="module")
def low(tiny: OneStepRestorer) -> LoadedModel:
    config = replace(FAST, parts=("unet",))
    return quantize(QuantizeRequest(LoadedModel("low", copy.deepcopy(tiny)), FACES[:1], config)).model


def train(low: LoadedModel, teacher: OneStepRestorer, runs: Path | None, stop_after: int = 9, **given: Any) -> tuple:
    """(the result, the steps done at each report, what was told) of three steps."""
    done, told = list[int](), list[str]()

    def note(progress: StageProgress) -> None:
        done.append(progress.done)
        if progress.done == stop_after:
            raise KeyboardInterrupt

    model, trainer = replace(low, restorer=copy.deepcopy(low.restorer)), TrainerConfig(steps=3, batch_size=1)
    config = RestorerDistillConfig(trainer, rank=2, precision="float32")
    request = DistillRequest(
        model, LoadedModel("full", teacher), FACES, config, runs=runs, **{"validation": 0, **given}
    )
    return distill(request, PipelineCallbacks(progress=note, notify=told.append)), done, told


def test_a_stopped_training_resumes_and_ends_as_if_it_had_not_been(
    tiny: OneStepRestorer, low: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.pipelines.training_run._UNSAVED", 0.0)
    runs = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        train(low, tiny, runs, stop_after=2)
    result, done, told = train(low, tiny, runs)
    assert done == [2, 3]
    assert not told
    assert not runs.exists()
    expected = train(low, tiny, None)[0].model.restorer.state_dict()
    made = result.model.restorer.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in made.items())


def test_a_result_that_cannot_be_written_is_not_trained_again(
    tiny: OneStepRestorer, low: LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WriteError):
        train(low, tiny, tmp_path / "runs", output=tmp_path / "file" / "made.safetensors")
    result, done, _ = train(low, tiny, tmp_path / "runs", output=tmp_path / "made.safetensors")
    assert done == [3]
    assert len(result.losses) == 3
    assert not (tmp_path / "runs").exists()


def test_a_damaged_state_starts_the_training_over(
    tiny: OneStepRestorer, low: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.pipelines.training_run._UNSAVED", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(low, tiny, tmp_path, stop_after=2)
    (state,) = tmp_path.rglob("state.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    _, done, told = train(low, tiny, tmp_path)
    assert done == [0, 1, 2, 3]
    assert [line.partition(",")[0] for line in told] == ["the training starts over"]


def test_a_folder_that_cannot_be_written_to_does_not_end_the_training(
    tiny: OneStepRestorer, low: LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file")
    result, done, told = train(low, tiny, tmp_path / "runs", validation=1)
    assert len(result.losses) == done[-1] == 3
    assert [line.partition(":")[0] for line in told] == ["the training goes on, but cannot be resumed if it stops"]


def test_a_teacher_that_the_model_was_not_made_from_is_told(tiny: OneStepRestorer, low: LoadedModel) -> None:
    other = copy.deepcopy(tiny)
    next(other.unet.parameters()).data *= 1.02
    result, _, told = train(low, other, None)
    assert told == [result.warning]
    assert "low was made from other weights than the teacher's, full" in result.warning
    assert source_sha256(tiny) == source_sha256(copy.deepcopy(tiny).bfloat16()) != source_sha256(other)


def test_weights_are_told_apart_by_their_names_too() -> None:
    weight, other = torch.ones(2), torch.zeros(2)
    first, second = (torch.nn.ParameterDict(given) for given in ({"a": weight, "b": other}, {"c": weight, "d": other}))
    assert weights_sha256(first) == weights_sha256(copy.deepcopy(first)) != weights_sha256(second)
