"""The training script learns, and goes on after a stop exactly where it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, train_faces: Path):
    monkeypatch.syspath_prepend(str(ROOT / "training"))
    sys.modules.pop("train", None)
    import train

    stage = {"task": "restore", "train": ["unet", "embedder", "decoder"], "batch": 1, "crop": 32, "learning_rate": 1e-3}
    loss = {"l1": 1.0, "latent": 0.2, "codes": 0.1, "adversarial": 0.01, "frequency": 0.1}
    config = {
        "seed": 1,
        "validate_every": 1000,
        "save_every": 2,
        "stage": [{"name": "s", "steps": 4, "loss": loss, **stage}],
    }
    monkeypatch.setattr(train.Trainer, "validate", lambda *_: 0.0)
    return lambda run: train.Trainer(config, train_faces, run, "cpu")


def test_a_stopped_run_resumes_exactly(trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for name, value in straight.average.items():
        assert torch.equal(value, resumed.average[name]), name
