"""Bit plans and sensitivities as JSON: readable, one layer per line, checked when read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ModelError
from ..types import BITS, BitPlan, Bits, LayerSensitivity, Sensitivity
from .atomic import write_text

_PLAN, _SENSITIVITY, _VERSION = "quantface-plan", "quantface-sensitivity", 1
_SETTINGS = "settings"  # the key of what sensitivities were measured with
_KEYS = {"macs": "multiplications"}  # keys in files that differ from the field names
_MOST = 2**63  # exclusive upper bound of a number in a file
_LARGEST = 100_000_000  # bytes: far more than any model's layers need


def plan_to_json(plan: BitPlan) -> str:
    """Serialise a plan, one layer per line: `"unet.conv_in": "w8a8"`."""
    widths = {name: str(Bits(*bits)) for name, bits in plan.layers.items()}
    return json.dumps({"format": _PLAN, "version": _VERSION, "model": plan.model, "layers": widths}, indent=1) + "\n"


def plan_from_json(text: str) -> BitPlan:
    """Parse what `plan_to_json` returns. Raises ConfigError naming the field that is wrong."""
    table = _parsed(text, _PLAN, {"model", "layers"})
    layers = {}
    for name, widths in table["layers"].items():
        try:
            layers[name] = Bits.parse(str(widths))
        except ConfigError as error:
            raise ConfigError(f"layers.{name:.80}: {error}") from None
    return BitPlan(table["model"], layers)


def sensitivity_to_json(sensitivity: Sensitivity) -> str:
    """Serialise sensitivities, one layer per line."""
    rows = {name: json.dumps(_row(layer)) for name, layer in sensitivity.layers.items()}
    head = {"format": _SENSITIVITY, "version": _VERSION, "model": sensitivity.model}
    head |= {"perceptual": sensitivity.perceptual, "rest_bytes": sensitivity.rest_bytes}
    head |= {_SETTINGS: dict(sensitivity.settings)} if sensitivity.settings else {}
    body = ",\n".join(f"  {json.dumps(name)}: {row}" for name, row in rows.items())
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "layers": {{\n{body}\n }}\n}}\n'


def sensitivity_from_json(text: str) -> Sensitivity:
    """Parse what `sensitivity_to_json` returns. Raises ConfigError naming the field that is wrong."""
    table = _parsed(text, _SENSITIVITY, {"model", "perceptual", "rest_bytes", "layers"}, {_SETTINGS})
    if not isinstance(table["perceptual"], str):
        raise ConfigError("perceptual: expected a metric's name")
    settings = table.get(_SETTINGS, {})  # older releases recorded none
    if not isinstance(settings, dict):
        raise ConfigError(f"{_SETTINGS}: expected a table")
    rest = _number("rest_bytes", table["rest_bytes"])
    layers = {name: _layer(name, row) for name, row in table["layers"].items()}
    return Sensitivity(table["model"], table["perceptual"], int(rest), layers, settings)


def save_plan(plan: BitPlan, path: str | Path) -> None:
    """Write a plan atomically. Raises WriteError."""
    write_text(Path(path), plan_to_json(plan))


def load_plan(path: str | Path) -> BitPlan:
    """Read a plan. Raises ModelError when the file is missing, unreadable or not a plan."""
    return _loaded(Path(path), plan_from_json)


def save_sensitivity(sensitivity: Sensitivity, path: str | Path) -> None:
    """Write sensitivities atomically. Raises WriteError."""
    write_text(Path(path), sensitivity_to_json(sensitivity))


def load_sensitivity(path: str | Path) -> Sensitivity:
    """Read sensitivities. Raises ModelError when the file is missing, unreadable or holds none."""
    return _loaded(Path(path), sensitivity_from_json)


def _row(layer: LayerSensitivity) -> dict[str, Any]:
    return {_KEYS.get(key, key): value for key, value in asdict(layer).items()}


def _layer(name: str, row: Any) -> LayerSensitivity:
    expected = {_KEYS.get(f.name, f.name) for f in fields(LayerSensitivity)}
    if not isinstance(row, Mapping) or set(row) != expected:
        raise ConfigError(f"layers.{name:.80}: expected a table of {', '.join(sorted(expected))}")
    widths = {}
    for key in ("weight", "activation"):
        if not isinstance(row[key], Mapping) or set(row[key]) != {str(bits) for bits in BITS}:
            raise ConfigError(f"layers.{name:.80}.{key}: expected a share per width, {BITS.start} to {BITS.stop - 1}")
        widths[key] = {bits: _number(f"layers.{name:.80}.{key}", row[key][str(bits)]) for bits in BITS}
    numbers = {k: _number(f"layers.{name:.80}.{k}", row[k]) for k in expected - {"weight", "activation", "fixed"}}
    fixed = row["fixed"]
    if fixed is not None and (type(fixed) is not int or fixed not in BITS):
        raise ConfigError(f"layers.{name:.80}.fixed: expected null, or {BITS.start} to {BITS.stop - 1} bits")
    return LayerSensitivity(
        int(numbers[_KEYS["macs"]]),
        int(numbers["parameters"]),
        int(numbers["overhead"]),
        fixed,
        widths["weight"],
        widths["activation"],
        numbers["error"],
        numbers["perceptual"],
    )


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < _MOST:
        raise ConfigError(f"{name}: expected a number of at least 0, got {value!r:.40}")
    return value


def _parsed(text: str, kind: str, expected: set[str], optional: Set[str] = frozenset()) -> dict[str, Any]:
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON ({error})") from error
    if not isinstance(table, dict) or table.get("format") != kind:
        raise ConfigError(f"its format is not {kind!r}")
    if table.get("version") != _VERSION:
        raise ConfigError(f"version {table.get('version')!r:.20}, but this release reads {_VERSION}: update QuantFace")
    if set(table) - optional != expected | {"format", "version"}:
        raise ConfigError(f"fields are {', '.join(sorted(expected))}, got {', '.join(map(str, sorted(table)))[:200]}")
    if not isinstance(table["model"], str) or not isinstance(table["layers"], dict) or not table["layers"]:
        raise ConfigError("model: expected a name; layers: expected a table that is not empty")
    return table


def _loaded(path: Path, parse: Any) -> Any:
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path}: too large for a plan or sensitivities")
        return parse(path.read_text("utf-8-sig"))  # some editors prepend a byte order mark
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot read ({error})") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
