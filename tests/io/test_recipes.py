"""Recipes: the shipped ones hold together, a user's is checked field by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.errors import ConfigError, ModelError
from quantface_core.io.catalogue import catalogue
from quantface_core.io.recipes import known_recipes, load_recipe
from quantface_core.types import Budget

GOOD = """
source = "quantface-mini"
[calibrate]
images = 8
weight_bits = 4
[allocate]
activation_bits = 4
limits = { "vae.decoder" = [6, 8] }
perceptual = "ssim"
[distill]
steps = 10
learning_rate = 1e-4
perceptual = "ms_ssim"
mode = "blocks"
"""


@pytest.mark.parametrize("name", known_recipes())
def test_shipped_recipes_read_and_their_models_are_known(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.source in catalogue()["restorers"]
    # OSDFace is too large to train by default; the bundled 4-bit model is near enough without.
    assert recipe.distill is not None or recipe.source == "osdface" or name == "mini-w4a4-mp"


def test_mixed_precision_averages_what_the_paper_reports() -> None:
    assert load_recipe("mini-w4a4-mp").budget == Budget(activation_bits=3.98, weight_bits=4.23)


def test_a_users_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    recipe = load_recipe(str(path))
    assert recipe.name == "mine"
    assert recipe.images == 8
    assert recipe.budget == Budget(activation_bits=4.0, limits={"vae.decoder": (6, 8)})
    assert recipe.perceptual == "ssim"
    assert recipe.distill is not None
    assert recipe.distill.trainer.steps == 10
    assert recipe.distill.perceptual == "ms_ssim"
    assert recipe.mode == "blocks"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps = 10", "stepps = 10", "distill.stepps"),
        ("steps = 10", "steps = 'ten'", "distill.steps"),
        ("weight_bits = 4", "weight_bits = true", "calibrate.weight_bits"),
        ('source = "quantface-mini"', "", "source"),
        ("[6, 8]", "[6]", "allocate.limits.vae.decoder"),
        ('mode = "blocks"', 'mode = "fast"', "distill.mode"),
        ('mode = "blocks"', 'precision = "half"', "distill.precision"),
        ("images = 8", "images = -3", "calibrate.images: at least 1, got -3"),
        ("steps = 10", "faces = 0", "distill.faces: at least 1"),
        ("steps = 10", "validation = -1", "distill.validation: at least 0"),
        ("weight_bits = 4", "weight_bits = 17", "calibrate.weight_bits: 3 to 8 bits, got 17"),
        ("weight_bits = 4", "parts = [1, 2]", "calibrate.parts: expected a list of strings"),
        ("[distill]", "[evaluate]\nmetrics = [1]\n[distill]", "evaluate.metrics: expected a list of strings"),
        ("activation_bits = 4\n", "", "allocate: give at least one budget"),
        ("[6, 8]", "[6, 80]", "allocate: the limit of 'vae.decoder'"),
        ("[calibrate]", "[calibrat]", "calibrat: unknown field"),
        ("[calibrate]", "[[calibrate]]", "calibrate: expected a table of settings"),
        ('{ "vae.decoder" = [6, 8] }', "[1]", "allocate.limits: expected a table"),
    ],
)
def test_the_wrong_field_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(path))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="; did you mean mini-w4a4"):
        load_recipe("mini-w4a4-")
