"""Sensitivities of a tiny restorer: complete, positive, falling with the bits; the restorer stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from quantface_core.errors import UsageError
from quantface_core.io.checkpoint import save_restorer
from quantface_core.nn.swap import quantizable
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from quantface_core.stages.sensitivity import measure_sensitivity
from quantface_core.types import BITS, Sensitivity
from tests.conftest import FAST


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def measured(tiny: OneStepRestorer, faces: torch.Tensor) -> Sensitivity:
    before = copy.deepcopy(tiny.state_dict())
    found = measure_sensitivity(tiny, calibrate_restorer(tiny, faces), faces, FAST, "ssim")
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.state_dict().items())
    return found


def test_every_layer_is_measured_and_the_restorer_stays(tiny: OneStepRestorer, measured: Sensitivity) -> None:
    assert list(measured.layers) == list(quantizable(tiny))
    for name, layer in measured.layers.items():
        assert layer.macs > 0, name
        assert layer.parameters == tiny.get_submodule(name).weight.numel()
        measured_at = layer.fixed or 4
        assert layer.weight[measured_at] + layer.activation[measured_at] == pytest.approx(1, abs=1e-6)
        for shares in (layer.weight, layer.activation):
            assert all(shares[b] >= shares[b + 1] * 0.99 for b in list(BITS)[:-1]), name


def test_edges_are_fixed_at_eight_bits(measured: Sensitivity) -> None:
    assert measured.layers["unet.conv_in"].fixed == 8
    assert measured.layers["unet.mid_block.resnets.0.conv1"].fixed is None


def test_the_prediction_is_of_the_pictures_size(
    tiny: OneStepRestorer, faces: torch.Tensor, measured: Sensitivity
) -> None:
    """The sum of single layers' errors lies near the error of all at once: what the program adds up means something."""
    low = copy.deepcopy(tiny)
    quantize_restorer(low, calibrate_restorer(tiny, faces), faces, FAST)
    exact = tiny(faces) / 2 + 0.5
    actual = float(((low(faces) / 2 + 0.5) - exact).square().mean() / exact.var())
    expected = sum(layer.error for layer in measured.layers.values())
    assert expected / 4 < actual < expected * 4


def test_progress_ends_and_stops(tiny: OneStepRestorer, faces: torch.Tensor) -> None:
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(tiny, calibrate_restorer(tiny, faces), faces, FAST, "ssim", stop)
    assert len(quantizable(tiny)) > 40
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize("size", [64, 160])
def test_small_pictures_ask_for_another_metric(size: int, faces: torch.Tensor) -> None:
    never_run: Any = SimpleNamespace(image_size=size)
    with pytest.raises(UsageError, match="MS-SSIM needs more than 160 pixels: choose another metric"):
        measure_sensitivity(never_run, {}, faces)


def test_bytes_beside_the_layers_are_those_of_the_file(
    tiny: OneStepRestorer, measured: Sensitivity, tmp_path: Path
) -> None:
    """A restorer's file holds its other weights in float16."""
    save_restorer(tiny, tmp_path / "tiny.safetensors")
    stored = load_file(tmp_path / "tiny.safetensors")
    beside = [tensor for name, tensor in stored.items() if name.rpartition(".")[0] not in measured.layers]
    assert measured.rest_bytes == sum(tensor.nbytes for tensor in beside)
