"""Photos side by side: what ends the run, and what is one photo's own error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from quantface_core.options import RestoreOptions
from quantface_core.pipelines.callbacks import PipelineCallbacks
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


def test_a_cancel_stops_an_upscaler_within_a_layer(tiny: OneStepRestorer, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (90, 80, 70)).save(tmp_path / "a.png")
    jobs = [Job(tmp_path / "a.png", tmp_path / "out" / "a.png", None)]

    class Network(torch.nn.Sequential):
        ran = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.ran = True
            made: torch.Tensor = super().forward(x)
            raise AssertionError(f"it went on to {made.shape}")

    network = Network(torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.PixelShuffle(2))

    def check() -> None:
        if network.ran:
            raise KeyboardInterrupt

    request = RestoreRequest(jobs, Execution(Path(), torch.device("cpu")), RestoreOptions(upscale=2))
    with pytest.raises(KeyboardInterrupt):
        list(restore_with(tiny, request, PipelineCallbacks(check_cancelled=check), Upscaler(network, 2)))
    assert network.ran
    assert not list(tmp_path.glob("out/*"))
