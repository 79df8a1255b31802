"""`quantface calibrate` and `quantface allocate` on a tiny restorer, wherever this machine can compute."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.io.checkpoint import load_restorer, read_notes, save_restorer
from quantface_core.io.plans import load_plan
from quantface_core.nn.swap import quant_layers
from quantface_core.restorer import OneStepRestorer

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.fixture
def workshop(tiny: OneStepRestorer, tmp_path: Path) -> Path:
    save_restorer(tiny, tmp_path / "tiny.safetensors", torch.float32, notes={"licence": "mine"})
    (tmp_path / "faces").mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / f"{seed}.png")
    return tmp_path


def command(workshop: Path, name: str, *more: str) -> list[str]:
    """On one of the faces."""
    faces = ["--images", str(workshop / "faces"), "--count", "1"]
    return [name, str(workshop / "tiny.safetensors"), *faces, "--rank", "4", *more]


@pytest.mark.parametrize("device", DEVICES)
def test_a_plan_and_a_model_of_its_bits(workshop: Path, device: str) -> None:
    """What was measured for it serves other budgets of the same model."""
    plan, low, kept = workshop / "plan.json", workshop / "low.safetensors", workshop / "kept.json"
    budget = ["--perceptual", "ssim", "--sensitivity", str(kept), "--output", str(plan), "--device", device]
    asked = command(workshop, "allocate", *budget)
    assert main([*asked, "--weight-bits", "5"]) == 0
    measured = kept.read_bytes()
    assert main([*asked, "--activation-bits", "5"]) == 0
    assert main([*asked, "--weight-bits", "4", "--rank", "8"]) == 2
    assert main([*asked, "--weight-bits", "4", "--count", "2"]) == 2
    assert kept.read_bytes() == measured
    nearest = ["--rounding", "nearest", "--device", device]
    assert main(command(workshop, "calibrate", "--plan", str(plan), "-o", str(low), *nearest)) == 0
    widths = load_plan(plan).layers
    layers = quant_layers(load_restorer(low))
    assert {n: (layer.format.weight_bits, layer.format.activation_bits) for n, layer in layers.items()} == widths
    assert len(set(widths.values())) > 2
    assert read_notes(low)["calibration_sha256"]
    assert read_notes(low)["licence"] == "mine"


@pytest.mark.parametrize("name", ["calibrate", "allocate", "build"])
def test_a_device_that_is_not_here_is_refused(
    workshop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    output = workshop / "made.safetensors"
    asked = ["build", "mini-w4a4"] if name == "build" else command(workshop, name)
    asked += ["--weight-bits", "4"] if name == "allocate" else []
    assert main([*asked, "--output", str(output), "--device", "mps"]) == 2
    assert "not available on this machine; available: " in capsys.readouterr().err
    assert not output.exists()


def test_a_gpu_that_is_too_small_is_told_as_such(
    workshop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr("quantface_core.pipelines.quantize.calibrate_restorer", too_large)
    output = workshop / "low.safetensors"
    assert main(command(workshop, "calibrate", "--output", str(output))) == 1
    assert "out of memory on the GPU: use device cpu" in capsys.readouterr().err
    assert not output.exists()


def test_a_package_that_does_not_work_is_told_without_a_traceback(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Diffusers imports every package that it knows, with what is wrong with it."""
    (tmp_path / "for_another_torch.py").write_text("raise RuntimeError('operator does not exist')")
    monkeypatch.syspath_prepend(tmp_path)

    def importing(*_: object) -> None:
        importlib.import_module("for_another_torch")

    monkeypatch.setattr("quantface_core.pipelines.quantize.calibrate_restorer", importing)
    assert main(command(workshop, "calibrate", "--output", str(tmp_path / "low.safetensors"))) == 1
    told = "quantface: for_another_torch does not work here (operator does not exist): update it"
    assert capsys.readouterr().err.splitlines()[-1].startswith(told)
