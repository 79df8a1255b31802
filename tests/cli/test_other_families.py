"""Published files of other families through the commands: restored, quantized, trained, restored again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.io.checkpoint import load_restorer, read_notes
from quantface_core.io.checksum import sha256
from quantface_core.io.photos import read_photo
from quantface_core.io.plans import load_plan
from quantface_core.nn.swap import quant_layers
from quantface_core.types import Bits
from tests.published import FILES


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces")
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{seed}.png")
    return path


QUICK = ["--count", "1", "--block", "1", "--rank", "2"]


@pytest.fixture(scope="module")
def low(published: Path, faces: Path) -> Path:
    """GFPGAN with few bits."""
    path = published / "low.safetensors"
    model = str(published / "GFPGANv1.4.pth")
    assert main(["calibrate", model, "--images", str(faces), *QUICK, "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize("name", FILES.values())
@pytest.mark.usefixtures("models_dir")
def test_a_photo_is_restored(published: Path, photos: Path, tmp_path: Path, name: str) -> None:
    photo = photos / "nasa_astronaut.png"
    command = ["restore", str(photo), "--model", str(published / name), "--strength", "1", "-o"]
    assert main([*command, str(tmp_path / "one"), "--json", str(tmp_path / "report.json")]) == 0
    before, after = (read_photo(f / photo.name).pixels for f in (photo.parent, tmp_path / "one"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["photos"][0]["restored"]) == 1
    assert np.abs(before.astype(int) - after)[30:190, 150:290].mean() > 3  # its face
    assert np.array_equal(before[-100:], after[-100:])
    assert main([*command, str(tmp_path / "two"), "--low-memory"]) == 0  # they have no parts: the same picture
    assert (tmp_path / "two" / photo.name).read_bytes() == (tmp_path / "one" / photo.name).read_bytes()


@pytest.mark.usefixtures("models_dir")
def test_fidelity(published: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(photos / "nasa_astronaut.png")
    for fidelity in ("0", "1"):
        command = ["restore", photo, "--model", str(published / "codeformer.pth"), "--strength", "1"]
        assert main([*command, "--fidelity", fidelity, "-o", str(tmp_path / f"{fidelity}.png")]) == 0
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()
    capsys.readouterr()
    assert main(["restore", photo, "-o", str(tmp_path / "no.png"), "--fidelity", "0.5"]) == 1
    assert "has no fidelity setting" in capsys.readouterr().err
    assert main(["restore", photo, "-o", str(tmp_path / "no.png"), "--fidelity", "5"]) == 2


@pytest.mark.parametrize("name", ["GFPGANv1.4.pth", "RestoreFormer.pth"])
def test_a_plan_a_low_bit_model_and_its_training(
    published: Path, faces: Path, low: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, trained = tmp_path / "plan.json", tmp_path / "trained.safetensors"
    model, images = str(published / name), ["--images", str(faces)]
    budget = ["--activation-bits", "5", "--perceptual", "ssim", "--count", "1", "--output", str(plan)]
    if name == "RestoreFormer.pth":  # the quicker
        assert main(["allocate", model, *images, *budget, "--rank", "2"]) == 0
        low = tmp_path / "low.safetensors"
        assert main(["calibrate", model, *images, *QUICK, "--plan", str(plan), "-o", str(low)]) == 0
    layers = quant_layers(load_restorer(low))
    if plan.exists():
        assert {n: Bits(*layer.format.bits) for n, layer in layers.items()} == load_plan(plan).layers
    run = ["--steps", "2", "--batch-size", "1", "--validation", "0", "--rank", "2", "--precision", "float32"]
    asked = ["--teacher", model, *images, *run, "--learning-rate", "1e-3", "--warmup", "0", "--save-every", "1"]
    assert main(["distill", str(low), *asked, "-o", str(trained)]) == 0
    after = quant_layers(load_restorer(trained))
    assert any(layer.format.rank > layers[n].format.rank for n, layer in after.items())
    assert read_notes(trained)["licence"] == "Apache-2.0"
    capsys.readouterr()
    assert main(["info", str(trained)]) == 0
    told = capsys.readouterr().out
    assert f"{len(after)} low-bit layers" in told
    assert 'distill: {"trainer": {"steps": 2' in told  # how it was made
    assert "licence: Apache-2.0\n" in told
    assert f"sha256: {sha256(trained)}\n" in told
    assert main(["distill", str(low), *asked, "--mode", "blocks", "-o", str(tmp_path / "b.safetensors")]) == 2
    assert "train it end to end" in capsys.readouterr().err


def test_another_architecture_teaches_nothing(
    published: Path, faces: Path, low: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = ["--teacher", str(published / "RestoreFormer.pth"), "--images", str(faces), "--validation", "1"]
    assert main(["distill", str(low), *teacher, "-o", str(tmp_path / "t.safetensors")]) == 2
    assert "cannot learn from" in capsys.readouterr().err
