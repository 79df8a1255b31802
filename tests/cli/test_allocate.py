"""`quantface allocate` with sensitivities that are kept: what they are not of is rejected, instead of ignored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.io.plans import save_sensitivity
from quantface_core.pipelines.checksums import images_sha256
from quantface_core.pipelines.faces import FaceSource, load_faces
from quantface_core.quant.sensitivity import settings_of
from quantface_core.types import BITS, LayerSensitivity, RestorerQuantConfig, Sensitivity

SIZE = 64


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    widths = {bits: 1 / bits for bits in BITS}
    layers = {f"unet.{n}": LayerSensitivity(10**6, 10**6, 64_000, None, widths, widths, 1.0, 0.0) for n in "ab"}
    for number, name in enumerate(("faces", "others")):
        Path(name).mkdir()
        Image.fromarray(np.full((SIZE, SIZE, 3), 60 + 90 * number, np.uint8)).save(Path(name) / "face.png")
    checksum = images_sha256(load_faces(FaceSource(16, folder=Path("faces")), SIZE))
    settings = settings_of(RestorerQuantConfig(rank=16, seed=3))
    settings |= {"image_size": SIZE, "calibration_sha256": checksum}
    sensitivity = Sensitivity("quantface-mini", "ms_ssim", 0, layers, settings)
    save_sensitivity(sensitivity, path := tmp_path / "kept.json")
    save_sensitivity(replace(sensitivity, settings={}), tmp_path / "old.json")
    return path


AS_KEPT = ["--rank", "16", "--seed", "3"]


def _allocate(model: str, kept: Path, *options: str) -> int:
    return main(["allocate", model, "--weight-bits", "4", "--sensitivity", str(kept), "-o", "plan.json", *options])


@pytest.mark.parametrize("model", ["quantface-mini", "my-own.safetensors"])
@pytest.mark.parametrize("faces", [[], ["--images", "faces"]])
def test_kept_sensitivities_need_neither_model_nor_images(model: str, faces: list[str], kept: Path) -> None:
    assert _allocate(model, kept, *AS_KEPT, *faces) == 0
    assert json.loads(Path("plan.json").read_text())["model"] == "quantface-mini"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("osdface", AS_KEPT, "is of quantface-mini, not of osdface"),
        ("quantface-mini", ["--rank", "0", "--seed", "9"], "was measured with rank 16, not 0, seed 3, not 9"),
        ("quantface-mini", [], "was measured with rank 16, not 32, seed 3, not 0"),
        ("quantface-mini", [*AS_KEPT, "--perceptual", "ssim"], "was measured with metric ms_ssim, not ssim"),
        ("quantface-mini", [*AS_KEPT, "--images", "others"], "was measured on other faces"),
        ("quantface-mini", [*AS_KEPT, "--images", "faces", "--degrade"], "was measured on other faces"),
    ],
)
def test_what_they_are_not_of_is_told(
    model: str, options: list[str], message: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _allocate(model, kept, *options) == 2
    assert message in capsys.readouterr().err
    assert not Path("plan.json").exists()


def test_of_an_older_file_it_is_said_that_it_does_not_say(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _allocate("quantface-mini", kept.with_name("old.json")) == 0
    assert "does not say with what rank, seed and faces" in capsys.readouterr().out
