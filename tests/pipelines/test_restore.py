"""Photos side by side: what ends the run, and what is one photo's own error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from quantface_core.options import RestoreOptions
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.pipelines.jobs import Job
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult, RestoreRequest, restore_with
from quantface_core.restorer import OneStepRestorer
from quantface_core.restorer.upscaler import Upscaler


def test_a_cancel_ends_the_run_and_is_no_photo_s_error(tiny: OneStepRestorer, tmp_path: Path) -> None:
    jobs = []
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (64, 64), (90, 80, 70)).save(tmp_path / name)
        jobs.append(Job(tmp_path / name, tmp_path / "out" / name, None))

    class CancelledError(Exception):
        """The host's."""

    checks = []

    def check() -> None:
        checks.append(None)
        if len(list((tmp_path / "out").glob("*.png"))) == 1:
            raise CancelledError

    request = RestoreRequest(jobs, Execution(Path(), torch.device("cpu")), RestoreOptions(), aligned=True)
    results = restore_with(tiny, request, PipelineCallbacks(check_cancelled=check))
    told: list[PhotoResult] = []
    with pytest.raises(CancelledError):
        told.extend(results)  # those before the cancel are kept
    assert all(not result.error for result in told)
    assert len(told) < len(jobs)
    assert checks


def test_an_upscaler_tells_its_tiles_and_is_cancelled_between_its_layers(tiny: OneStepRestorer, tmp_path: Path) -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
            self.cancel_after = 99

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cancel_after -= 1
            return F.interpolate(self.layers(x), scale_factor=2.0)

    Image.new("RGB", (300, 64), (90, 80, 70)).save(tmp_path / "a.png")
    network, told, checks = Doubling(), list[StageProgress](), list[int]()
    jobs = [Job(tmp_path / "a.png", tmp_path / "out" / "a.png", None)]
    request = RestoreRequest(jobs, Execution(Path(), torch.device("cpu")), RestoreOptions(upscale=2))

    def check() -> None:
        checks.append(network.cancel_after)
        if network.cancel_after <= 1:
            raise KeyboardInterrupt

    callbacks = PipelineCallbacks(progress=told.append, check_cancelled=check)
    (result,) = restore_with(tiny, request, callbacks, Upscaler(network, 2))
    assert not result.error
    assert [step.detail for step in told if "tiles" in step.detail] == [
        f"a.png: {n} of 2 tiles enlarged" for n in (1, 2)
    ]
    assert checks.count(98) >= 5
    network.cancel_after = 2
    with pytest.raises(KeyboardInterrupt):
        list(restore_with(tiny, request, callbacks, Upscaler(network, 2)))
    assert network.cancel_after == 1  # the second tile was not begun
