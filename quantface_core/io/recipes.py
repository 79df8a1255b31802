"""Recipes: how a low-bit model is made from a full-precision one, as TOML; shipped ones by name, or a user's file."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ModelError
from ..types import Budget, DistillMode, DistillSettings, FitSettings, QuantizeSettings

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

_FOLDER = Path(__file__).parent.parent / "recipes"
_SECTIONS = {"source", "calibrate", "allocate", "distill", "evaluate"}


@dataclass(frozen=True)
class Recipe:
    """What `quantface build` does, stage by stage."""

    name: str
    source: str  # the full-precision model's name or file
    quantize: QuantizeSettings
    images: int = 16  # faces calibrated with
    perceptual: str = "ms_ssim"  # the metric that allocation measures
    budget: Budget | None = None  # None = the settings' widths everywhere
    distill: DistillSettings | None = None  # None = not trained
    mode: DistillMode = "end-to-end"  # of distillation
    faces: int = 10_000  # trained on, at most
    validation: int = 16  # faces that validate, the folder's last
    metrics: tuple[str, ...] = field(default=())  # what the result is evaluated by; empty = not at all


def known_recipes() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a TOML file. Raises ModelError, ConfigError naming the field."""
    path = Path(name) if name.endswith(".toml") or os.sep in name else _FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if path.parent != _FOLDER:
            raise ModelError(f"{path}: no such recipe") from None
        near = difflib.get_close_matches(name, known_recipes(), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        known = ", ".join(known_recipes())
        raise ModelError(f"unknown recipe {name!r}.{hint} Known: {known}; or give a .toml file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: cannot read ({error})") from error
    try:
        return _recipe(path.stem, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _recipe(name: str, table: Mapping[str, Any]) -> Recipe:
    _refuse_unknown("", table, _SECTIONS)
    if not isinstance(table.get("source"), str):
        raise ConfigError("source: the name of a full-precision model")
    sections = {key: dict(table.get(key, {})) for key in _SECTIONS - {"source"}}
    own: dict[str, Any] = {}
    for section, key, kind in (
        ("calibrate", "images", int),
        ("allocate", "perceptual", str),
        ("distill", "mode", str),
        ("distill", "faces", int),
        ("distill", "validation", int),
        ("evaluate", "metrics", list),
    ):
        if key in sections[section] and (section, key) != ("distill", "perceptual"):
            own[key] = _typed(f"{section}.{key}", sections[section].pop(key), kind)
    if own.get("mode", "end-to-end") not in ("end-to-end", "blocks"):
        raise ConfigError("distill.mode: end-to-end or blocks")
    if sections["distill"].get("precision", "auto") not in ("auto", "bfloat16", "float32"):
        raise ConfigError("distill.precision: auto, bfloat16 or float32")
    own["metrics"] = tuple(own.get("metrics", ()))
    _refuse_unknown("evaluate.", sections["evaluate"], set())
    quantize = _filled("calibrate", QuantizeSettings, sections["calibrate"])
    budget = _filled("allocate", Budget, _with_limits(sections["allocate"])) if "allocate" in table else None
    distill = None
    if "distill" in table:
        steps = {f.name for f in fields(FitSettings)}
        fit = {key: value for key, value in sections["distill"].items() if key in steps}
        rest = {key: value for key, value in sections["distill"].items() if key not in steps}
        distill = _filled("distill", DistillSettings, {**rest, "fit": _filled("distill", FitSettings, fit)})
    return Recipe(name, table["source"], quantize, budget=budget, distill=distill, **own)


def _with_limits(section: dict[str, Any]) -> dict[str, Any]:
    """`limits = { "vae.decoder" = [6, 8] }` as the budget wants it."""
    limits = section.get("limits", {})
    for room, pair in limits.items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(bits) is int for bits in pair):
            raise ConfigError(f"allocate.limits.{room}: [least, most] bits")
    return {**section, "limits": {room: tuple(pair) for room, pair in limits.items()}}


def _filled(section: str, cls: type, values: Mapping[str, Any]) -> Any:
    """A settings object with these values, of the types its defaults have; unknown names are refused."""
    neutral = cls()
    defaults = {f.name: getattr(neutral, f.name) for f in fields(cls)}
    _refuse_unknown(f"{section}.", values, set(defaults))
    checked = {}
    for key, value in values.items():
        default = defaults[key]
        kind = float if default is None else type(default)
        value = tuple(value) if isinstance(value, list) else value
        checked[key] = _typed(f"{section}.{key}", value, kind)
    return cls(**checked)


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name}: {kind.__name__} expected, got {value!r:.40}")
    return value


def _refuse_unknown(prefix: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: not a field; known are {', '.join(sorted(known)) or 'none'}")
