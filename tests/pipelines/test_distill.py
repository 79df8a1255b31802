"""Distilling keeps runs apart: what another model or teacher learned is not taken for one's own."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantface_core.errors import ModelError, UsageError
from quantface_core.nn.swap import quant_layers
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.pipelines.distill import DistillRequest, DistillResult, distill, noted
from quantface_core.pipelines.models import LoadedModel
from quantface_core.pipelines.training_run import losses_table
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from quantface_core.train.training import TrainingReport
from quantface_core.types import RestorerDistillConfig, TrainerConfig
from tests.conftest import FAST

SETTINGS = RestorerDistillConfig(TrainerConfig(steps=1, batch_size=1, save_every=1), rank=2, precision="float32")


@pytest.fixture(scope="module")
def quantized(tiny: OneStepRestorer) -> OneStepRestorer:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quantize_restorer(made := copy.deepcopy(tiny), calibrate_restorer(tiny, image), image, FAST)
    return made


@pytest.fixture
def low(quantized: OneStepRestorer) -> OneStepRestorer:
    """The tiny restorer with few bits, to be trained."""
    return copy.deepcopy(quantized)


def train(
    low: OneStepRestorer,
    teacher: OneStepRestorer,
    images: Tensor,
    val_images: Tensor,
    settings: RestorerDistillConfig,
    folder: Path,
) -> None:
    faces, models = torch.cat([images, val_images]), (LoadedModel("low", low), LoadedModel("full", teacher))
    distill(DistillRequest(*models, faces, settings, validation=len(val_images), folder=folder))


def test_another_models_run_is_not_gone_on_with(tiny: OneStepRestorer, low: OneStepRestorer, tmp_path: Path) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other, teacher = copy.deepcopy(low), copy.deepcopy(tiny)
    next(iter(quant_layers(other).values())).weight_scale *= 1.01
    next(teacher.parameters()).data *= 1.01
    given = (images[:2], images[2:], SETTINGS, tmp_path / "run")
    train(copy.deepcopy(low), tiny, *given)
    train(copy.deepcopy(low), tiny, *given)  # the same is
    for model, taught_by, held in ((other, tiny, images[2:]), (low, teacher, images[2:]), (low, tiny, images[:1])):
        with pytest.raises(UsageError, match="other models"):
            train(copy.deepcopy(model), taught_by, images[:2], held, SETTINGS, tmp_path / "run")


def test_a_state_that_lacks_something_is_refused_by_its_files_name(
    tiny: OneStepRestorer, low: OneStepRestorer, tmp_path: Path
) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    train(copy.deepcopy(low), tiny, images[:1], images[:0], SETTINGS, tmp_path)
    file = tmp_path / "state.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({name: t for name, t in load_file(file).items() if name != "losses"}, file, metadata)
    with pytest.raises(ModelError, match=r"state.safetensors: the saved state lacks losses: delete it"):
        train(low, tiny, images[:1], images[:0], SETTINGS, tmp_path)


def test_branches_are_never_larger_than_their_layer(
    tiny: OneStepRestorer, low: OneStepRestorer, tmp_path: Path
) -> None:
    """A file whose rank is, nothing loads."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    train(low, tiny, images[:1], images[:0], replace(SETTINGS, rank=64), tmp_path / "run")
    ranks = {layer.shape: layer.format.rank for layer in quant_layers(low).values()}
    assert max(ranks.values()) == 32  # in place of 4 + 64
    assert all(rank <= min(shape[0], torch.Size(shape[1:]).numel()) for shape, rank in ranks.items())


def test_it_says_so_before_anything_is_computed_and_teaches_only_what_is_drawn(
    tiny: OneStepRestorer, low: OneStepRestorer
) -> None:
    """A folder may hold thousands of faces, each of which the full-precision model restores in seconds."""
    images = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    taught: list[int] = []
    told: list[tuple[int, int, int]] = []
    hook = tiny.unet.register_forward_hook(lambda _, given, __: taught.append(len(given[0])))
    request = DistillRequest(
        LoadedModel("low", low),
        LoadedModel("full", tiny),
        images,
        replace(SETTINGS, trainer=replace(SETTINGS.trainer, steps=3)),
        validation=2,
    )
    with hook:
        distill(request, PipelineCallbacks(lambda p: told.append((p.done, p.total, len(taught)))))
    assert told[0] == (0, 3, 0)
    assert told[-1][:2] == (3, 3)
    assert taught == [1] * (2 + 3)


def test_a_files_note_has_every_setting() -> None:
    config = RestorerDistillConfig(rank=3)
    assert noted(config, "blocks") == {**asdict(config), "mode": "blocks"}


@pytest.mark.parametrize(
    ("scores", "kept"), [((), False), ((3.0,), False), ((3.0, 2.0), True), ((3.0, 2.0, 3.5), False)]
)
def test_a_training_that_helps_nowhere_says_what_to_do(
    scores: tuple[float, ...], kept: bool, tiny: OneStepRestorer
) -> None:
    report = TrainingReport((1.0,), tuple(enumerate(scores)))
    result = DistillResult(LoadedModel("low", tiny), {"": report}, np.zeros((1, 1, 3), np.uint8))
    assert bool(result.advice) is kept
    diverged = {"": TrainingReport((1.0,), ((0, 1.0), (2, 4.0)), 4)}
    assert "diverged at step 4: step 2" in replace(result, reports=diverged).advice


def test_losses_and_scores_are_a_table_too() -> None:
    assert (
        losses_table([0.5, 0.25], [(0, 20.0), (2, 21.5)]) == "step,loss,validation_db\n0,,20.0\n1,0.5,\n2,0.25,21.5\n"
    )
    assert losses_table([0.5], []) == "step,loss,validation_db\n1,0.5,\n"


def test_a_slow_run_is_saved_between_its_intervals_and_resumes_to_the_same_weights(
    tiny: OneStepRestorer, low: OneStepRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.pipelines.training_run._UNSAVED", 0.0)
    faces = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    trainer = replace(SETTINGS.trainer, steps=4, validate_every=2, save_every=1000)

    def run(folder: Path, stop_after: int) -> DistillResult:
        def stop(progress: StageProgress) -> None:
            if progress.done == stop_after:
                raise KeyboardInterrupt

        models = LoadedModel("low", copy.deepcopy(low)), LoadedModel("full", tiny)
        config = replace(SETTINGS, trainer=trainer)
        request = DistillRequest(*models, faces, config, validation=1, folder=folder)
        return distill(request, PipelineCallbacks(progress=stop))

    straight = run(tmp_path / "straight", 5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", 2)  # of a state after its first step: the second's lacks its validation
    assert len(load_file(tmp_path / "stopped" / "state.safetensors")["losses"]) == 1
    resumed = run(tmp_path / "stopped", 5)
    assert resumed.scores == straight.scores
    once, again = (result.model.restorer.state_dict() for result in (straight, resumed))
    for name, value in once.items():
        assert torch.equal(value, again[name]), name
