"""Recipes: how to make a low-bit model from a full-precision one, as TOML; shipped ones by name, or a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ModelError, UsageError, suggestion
from ..quant.budgets import check_budget
from ..types import (
    BITS,
    DISTILL_MODES,
    TRAINING_PRECISIONS,
    Budget,
    DistillMode,
    RestorerDistillConfig,
    RestorerQuantConfig,
    TrainerConfig,
    widths_in_words,
)
from .tables import read_toml, refuse_unknown, table_of, typed, value_of

_FOLDER = Path(__file__).parent.parent / "recipes"
_SECTIONS = {"source", "calibrate", "allocate", "distill", "evaluate"}


@dataclass(frozen=True)
class Recipe:
    """What `quantface build` does, stage by stage."""

    name: str
    source: str  # the full-precision model's name or file
    quantize: RestorerQuantConfig
    images: int = 16  # calibration images
    perceptual: str = "ms_ssim"  # the metric that allocation measures with
    budget: Budget | None = None  # None = the widths of `quantize` in every layer
    distill: RestorerDistillConfig | None = None  # None = not trained
    mode: DistillMode = "end-to-end"  # of distillation
    faces: int | None = None  # at most, for training and validation; None = as many as the steps use
    validation: int = 16  # of these, the last
    metrics: tuple[str, ...] = field(default=())  # to evaluate the result with; empty = no evaluation


def known_recipes() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Load a shipped recipe by name, or a TOML file.

    Raises ModelError when there is none; ConfigError naming the field that is wrong.
    """
    path = Path(name) if name.endswith(".toml") or Path(name).name != name else _FOLDER / f"{name}.toml"
    if not path.exists():
        if path.parent != _FOLDER:
            raise ModelError(f"{path}: no such recipe")
        known = known_recipes()
        reason = f"unknown recipe {name!r}: give a .toml file, or one of {', '.join(known)}"
        raise ModelError(reason + suggestion(name, known))
    table = read_toml(path, "recipe")
    try:
        return _recipe(path.stem, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _recipe(name: str, table: Mapping[str, Any]) -> Recipe:
    refuse_unknown("", table, _SECTIONS)
    if not isinstance(table.get("source"), str):
        raise ConfigError("source: expected the name of a full-precision model")
    sections = {key: dict(table_of(key, table.get(key, {}), "settings")) for key in _SECTIONS - {"source"}}
    own: dict[str, Any] = {}
    for section, key, kind in (
        ("calibrate", "images", int),
        ("allocate", "perceptual", str),
        ("distill", "mode", str),
        ("distill", "faces", int),
        ("distill", "validation", int),
        ("evaluate", "metrics", tuple),
    ):
        if key in sections[section]:
            own[key] = typed(f"{section}.{key}", sections[section].pop(key), kind)
    for section, key, least in (("calibrate", "images", 1), ("distill", "faces", 1), ("distill", "validation", 0)):
        if own.get(key, least) < least:
            raise ConfigError(f"{section}.{key}: at least {least}, got {own[key]}")
    if own.get("mode", DISTILL_MODES[0]) not in DISTILL_MODES:
        raise ConfigError(f"distill.mode: expected {' or '.join(DISTILL_MODES)}")
    if sections["distill"].get("precision", "auto") not in TRAINING_PRECISIONS:
        raise ConfigError(f"distill.precision: expected one of {', '.join(TRAINING_PRECISIONS)}")
    refuse_unknown("evaluate.", sections["evaluate"], set())
    quantize = value_of(RestorerQuantConfig, "calibrate", sections["calibrate"])
    for key in ("weight_bits", "activation_bits", "edge_bits"):
        if getattr(quantize, key) not in BITS:
            raise ConfigError(f"calibrate.{key}: {widths_in_words()}, got {getattr(quantize, key)}")
    budget = _budget(sections["allocate"]) if "allocate" in table else None
    distill = None
    if "distill" in table:
        steps = {f.name for f in fields(TrainerConfig)}
        trainer = {key: value for key, value in sections["distill"].items() if key in steps}
        rest = {key: value for key, value in sections["distill"].items() if key not in steps}
        rest["trainer"] = value_of(TrainerConfig, "distill", trainer)
        distill = value_of(RestorerDistillConfig, "distill", rest)
    return Recipe(name, table["source"], quantize, budget=budget, distill=distill, **own)


def _budget(section: dict[str, Any]) -> Budget:
    """Build a budget; `limits = { "vae.decoder" = [6, 8] }` become pairs."""
    limits = table_of("allocate.limits", section.get("limits", {}), "[least, most] bits by module")
    for module, pair in limits.items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(bits) is int for bits in pair):
            raise ConfigError(f"allocate.limits.{module}: expected [least, most] bits")
    pairs = {module: tuple(pair) for module, pair in limits.items()}
    budget: Budget = value_of(Budget, "allocate", {**section, "limits": pairs})
    try:
        check_budget(budget)
    except UsageError as error:
        raise ConfigError(f"allocate: {error}") from None
    return budget
