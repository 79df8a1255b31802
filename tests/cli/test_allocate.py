"""`quantface allocate` with sensitivities that are kept: what they are not of is rejected, instead of ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantface_core.cli.main import main
from quantface_core.io.plans import save_sensitivity
from quantface_core.types import BITS, LayerSensitivity, Sensitivity


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    widths = {bits: 1 / bits for bits in BITS}
    layers = {f"unet.{n}": LayerSensitivity(10**6, 10**6, 64_000, None, widths, widths, 1.0, 0.0) for n in "ab"}
    save_sensitivity(Sensitivity("quantface-mini", "ms_ssim", 0, layers), path := tmp_path / "kept.json")
    return path


def _allocate(model: str, kept: Path, *options: str) -> int:
    return main(["allocate", model, "--weight-bits", "4", "--sensitivity", str(kept), "-o", "plan.json", *options])


@pytest.mark.parametrize("model", ["quantface-mini", "my-own.safetensors"])
def test_kept_sensitivities_need_no_images(model: str, kept: Path) -> None:
    assert _allocate(model, kept) == 0
    assert json.loads(Path("plan.json").read_text())["model"] == "quantface-mini"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("osdface", [], "is of quantface-mini, not of osdface"),
        ("quantface-mini", ["--rank", "0", "--seed", "9"], "--rank, --seed: not with"),
        ("quantface-mini", ["--perceptual", "ssim"], "was measured with ms_ssim"),
    ],
)
def test_what_they_are_not_of_is_told(
    model: str, options: list[str], message: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _allocate(model, kept, *options) == 2
    assert message in capsys.readouterr().err
    assert not Path("plan.json").exists()
