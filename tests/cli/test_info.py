"""`quantface info` on models that are no restorers."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import quantface_core as qf
from quantface_core.cli.main import main
from tests.quant.checkpoints import CONFIG, IMAGES, autoencoder


def test_a_quantized_diffusers_model_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = autoencoder()
    qf.quantize(model, IMAGES, CONFIG, exclude=["encoder"])
    qf.save_quantized(model, tmp_path / "vae.safetensors", notes={"licence": "mine"})
    layers = [layer for _, layer in model.named_modules() if hasattr(layer, "format")]
    assert main(["info", str(tmp_path / "vae.safetensors"), "--layers"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("vae.safetensors: AutoencoderKL")
    weights = sum(parameter.numel() for parameter in autoencoder().parameters())
    assert shown[1].startswith(f"{weights / 1e6:.2f} M weights, {len(layers)} low-bit layers")
    assert "licence: mine" in shown
    assert sum(line.startswith(("decoder.", "quant_conv", "post_quant_conv")) for line in shown) == len(layers)


def test_a_model_that_no_file_describes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, tmp_path / "own.safetensors")
    assert main(["info", str(tmp_path / "own.safetensors")]) == 1
    assert "Sequential cannot be built from its file" in capsys.readouterr().err
