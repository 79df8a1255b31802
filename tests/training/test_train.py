"""The training script learns, and goes on after a stop exactly where it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.errors import ImageError, QuantFaceError
from tests.conftest import TINY

Make = Callable[..., Any]  # a folder, and settings of its stage -> a trainer


@pytest.fixture(scope="module")
def few_faces(train_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as the codebook starts from, and one held out: every trainer reads them all."""
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted(train_faces.glob("*.jpg"))[:66]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def trainer(module: ModuleType, monkeypatch: pytest.MonkeyPatch, few_faces: Path) -> Make:
    loss = {"l1": 1.0, "latent": 0.2, "codes": 0.1, "adversarial": 0.01, "frequency": 0.1}
    stage = {
        "name": "s",
        "task": "restore",
        "train": ["unet", "embedder", "decoder"],
        "steps": 4,
        "batch": 1,
        "crop": 32,
        "learning_rate": 1e-3,
        "loss": loss,
    }
    monkeypatch.setattr(module, "QUANTFACE_MINI", TINY)
    monkeypatch.setattr(module.StageTrainer, "validate", lambda *_: 0.0)  # of whole faces: slow

    def make(run: Path, **settings: Any) -> Any:
        config = {"seed": 1, "validate_every": 1000, "save_every": 2, "stage": [{**stage, **settings}]}
        return module.StageTrainer(config, few_faces, run, "cpu")

    return make


def test_a_stopped_run_resumes_exactly(trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = trainer(tmp_path / "straight")
    straight.run_all()

    class StoppedError(Exception):
        pass

    broken = trainer(tmp_path / "broken")
    step = broken.step

    def stop_at_third(stage, number, *pair):
        if number == 3:
            raise StoppedError
        return step(stage, number, *pair)

    monkeypatch.setattr(broken, "step", stop_at_third)
    with pytest.raises(StoppedError):
        broken.run_all()
    resumed = trainer(tmp_path / "broken")
    resumed.run_all()
    again = resumed.average.state_dict()
    for name, value in straight.average.state_dict().items():
        assert torch.equal(value, again[name]), name


def test_the_first_stage_seeds_codes_and_resets_the_output(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer(tmp_path, seed_codebook=True, reset_output=True)
    codes = first.model.embedder.codebook.weight.clone()
    monkeypatch.setattr(first, "run_stage", lambda *_: None)
    first.run_all()
    assert not first.model.unet.conv_out.weight.any()
    assert not torch.equal(first.model.embedder.codebook.weight, codes)


def test_a_resumed_first_stage_is_not_reset(trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trainer(tmp_path, reset_output=True)
    first.run_all()
    again = trainer(tmp_path, reset_output=True)
    monkeypatch.setattr(again, "run_stage", lambda *_: None)
    again.run_all()
    assert again.model.unet.conv_out.weight.any()


def test_a_stage_of_cleaned_faces_is_reproducible(trainer: Make, tmp_path: Path) -> None:
    from objectives import Stage
    from pairs import Pairs

    made = trainer(tmp_path, severity=0.7, cleaned=True)
    stage = Stage(**made.config["stage"][0])
    one, again, other = (Pairs(made.train_faces, stage, seed)[1] for seed in (5, 5, 6))
    assert all(image.shape == (256, 256, 3) for image in one)
    assert all(map(np.array_equal, one, again))
    assert not np.array_equal(one[0], other[0])


def test_a_diverging_run_keeps_its_last_good_state(trainer: Make, tmp_path: Path) -> None:
    diverging = trainer(tmp_path)
    step = diverging.step

    def poisoned(stage, number, clean, degraded):
        if number == 3:
            diverging.model.unet.conv_in.weight.data[0] = float("nan")
        return step(stage, number, clean, degraded)

    diverging.step = poisoned
    with pytest.raises(QuantFaceError, match="s diverged at step 4: choose a lower learning rate"):
        diverging.run_all()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values() if tensor.is_floating_point())


def test_steps_taken_again_are_logged_once(trainer: Make, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    stage = SimpleNamespace(name="s")
    for step in (0, 10, 20):
        made.log(stage, step, {"l1": 0.5})
    made.unlog(stage, 10)
    made.log(stage, 10, {"l1": 0.25})
    assert (tmp_path / "log_s.csv").read_text().split() == ["step,l1", "0,0.50000", "10,0.25000"]


def test_faces_of_two_sizes_are_refused_by_name(trainer: Make, tmp_path: Path) -> None:
    from data import load_faces

    for name, side in (("a.png", 64), ("b.webp", 64), ("c.png", 32)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    with pytest.raises(ImageError, match=r"c\.png has another than a\.png"):
        load_faces(tmp_path)
    (tmp_path / "c.png").unlink()
    assert load_faces(tmp_path).shape == (2, 64, 64, 3)
