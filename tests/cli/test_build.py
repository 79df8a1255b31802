"""A recipe from end to end on a tiny restorer; stopped and given again, it ends the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import quantface_core
from quantface_core.cli.build import _name_of
from quantface_core.cli.main import main
from quantface_core.io.checkpoint import load_restorer, read_notes, save_restorer
from quantface_core.io.plans import load_plan
from quantface_core.nn.swap import quant_layers
from quantface_core.pipelines.training_run import TrainingRun
from quantface_core.restorer import OneStepRestorer
from quantface_core.train.trainer import Trainer

RECIPE = """
source = {source!r}
[calibrate]
parts = ["vae"]
images = 2
rank = 4
scaling = false
clipping = false
rounding = "nearest"
[allocate]
activation_bits = 5.0
perceptual = "ssim"
[distill]
steps = 4
batch_size = 1
rank = 2
warmup = 1
validation = 1
validate_every = 2
save_every = 1
precision = "float32"
"""

BLOCKS = """
source = {source!r}
[calibrate]
parts = ["vae"]
images = 2
rank = 4
scaling = false
clipping = false
rounding = "compensated"
[distill]
mode = "blocks"
steps = 1
batch_size = 1
rank = 2
validation = 1
precision = "float32"
"""


@pytest.fixture(scope="module")
def workshop(tiny: OneStepRestorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    save_restorer(tiny, folder / "tiny.safetensors", torch.float32, notes={"licence": "mine"})
    (folder / "mine.toml").write_text(RECIPE.format(source=str(folder / "tiny.safetensors")))
    (folder / "faces").mkdir()
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / "faces" / f"{seed}.png")
    return folder


def command(workshop: Path, output: Path) -> list[str]:
    return ["build", str(workshop / "mine.toml"), "--images", str(workshop / "faces"), "--output", str(output)]


@pytest.fixture(scope="module")
def unbroken(workshop: Path) -> Path:
    output = workshop / "unbroken.safetensors"
    assert main(command(workshop, output)) == 0
    return output


def test_a_recipe_makes_a_low_bit_model(workshop: Path, unbroken: Path) -> None:
    restorer = load_restorer(unbroken)
    (planned,) = (workshop / "unbroken.build").glob("plan-*.json")
    plan = load_plan(planned)
    for name, layer in quant_layers(restorer).items():
        assert (layer.format.weight_bits, layer.format.activation_bits) == plan.layers[name]
    assert max(layer.format.rank for layer in quant_layers(restorer).values()) == 4 + 2
    assert read_notes(unbroken)["licence"] == "mine"
    assert planned.with_suffix(".png").exists()
    assert next((workshop / "unbroken.build").glob("distill-*/losses.png")).exists()


def test_the_last_line_says_how_to_use_the_file(
    workshop: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(workshop, unbroken)) == 0
    assert capsys.readouterr().out.endswith(f"\nto use it: quantface restore PHOTO --model {unbroken}\n")
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(workshop))
    assert main(command(workshop, unbroken)) == 0
    assert capsys.readouterr().out.endswith("\nto use it: quantface restore PHOTO --model unbroken\n")
    assert _name_of(Path("my models/a.safetensors")) == '"my models/a.safetensors"'  # for a shell


def test_stopped_anywhere_and_given_again_it_ends_the_same(
    workshop: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, stepped = workshop / "broken.safetensors", TrainingRun._on_step

    def stop(self: TrainingRun, trainer: Trainer) -> None:
        stepped(self, trainer)
        if trainer.done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "_on_step", stop)
    assert main(command(workshop, output)) == 1
    assert not output.exists()
    monkeypatch.undo()
    made = {path: path.stat().st_mtime_ns for path in (workshop / "broken.build").glob("*.*")}
    assert main(command(workshop, output)) == 0
    assert output.read_bytes() == unbroken.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in made if path.suffix != ".png"}.items() <= made.items()


def test_blocks_stopped_and_given_again_end_the_same(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = workshop / "blocks.toml"
    recipe.write_text(BLOCKS.format(source=str(workshop / "tiny.safetensors")))
    whole, broken = workshop / "whole.safetensors", workshop / "parts.safetensors"
    given = ["build", str(recipe), "--images", str(workshop / "faces"), "--output"]
    assert main([*given, str(whole)]) == 0
    blocks, stepped = list[str](), TrainingRun._on_step

    def stop(self: TrainingRun, trainer: Trainer) -> None:
        stepped(self, trainer)
        blocks.append(trainer.name)
        if len(set(blocks)) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "_on_step", stop)
    assert main([*given, str(broken)]) == 1
    assert not broken.exists()
    monkeypatch.setattr(TrainingRun, "_on_step", lambda self, trainer: blocks.append(trainer.name))
    assert main([*given, str(broken)]) == 0
    assert broken.read_bytes() == whole.read_bytes()
    assert [blocks.count(name) for name in dict.fromkeys(blocks)][:3] == [1, 1, 2]  # the third began anew
    assert next((workshop / "parts.build").glob(f"distill-*/{blocks[0]}.losses.png")).exists()


def test_a_changed_recipe_goes_on_from_what_is_the_same(workshop: Path, unbroken: Path) -> None:
    before = set((workshop / "unbroken.build").iterdir())
    recipe = workshop / "mine.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("steps = 4", "steps = 2"))
    try:
        assert main(command(workshop, unbroken)) == 0
    finally:
        recipe.write_text(text)
    new = set((workshop / "unbroken.build").iterdir()) - before
    assert {path.name.split("-")[0] for path in new} == {"distill"}


def test_without_a_recipe_the_known_ones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build"]) == 0
    assert "mini-w4a4" in capsys.readouterr().out.split()


def test_a_recipe_that_trains_is_not_begun_by_a_command_that_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "models"))
    photo = Path(quantface_core.__file__).parent / "assets" / "astronaut.jpg"
    assert main(["restore", str(photo), "--model", "mini-w4a4", "-o", str(tmp_path / "a.png")]) == 1
    assert "mini-w4a4 has to be trained on faces first: build its recipe" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_a_recipe_s_numbers_are_checked_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RECIPE.format(source="quantface-mini").replace("steps = 4", "steps = 0")
    (tmp_path / "recipe.toml").write_text(text)
    assert main(["build", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "steps is a whole number from 1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]
