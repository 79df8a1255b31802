"""Tables of settings that people write: TOML files, and frozen values of their sections, checked field by field."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A file as tables. Raises ConfigError, in which `what` names the file to people."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors put a byte order mark before it
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the {what} ({error})") from error


def value_of(cls: type, name: str, table: object, kinds: Mapping[str, type] | None = None) -> Any:
    """A dataclass made of a table. Raises ConfigError that names the field, `name` before it.

    A field is of the type of its default; of `kinds` where it is named there; else a number, or, when it has to be
    given, text.
    """
    known = {field.name: field for field in fields(cls)}
    table = table_of(name, table, ", ".join(known))
    refuse_unknown(f"{name}.", table, known)
    if missing := [n for n, field in known.items() if n not in table and _required(field)]:
        raise ConfigError(f"{name}.{missing[0]}: missing")
    wanted = {key: (kinds or {}).get(key) or _kind(known[key]) for key in table}
    return cls(**{key: typed(f"{name}.{key}", value, wanted[key]) for key, value in table.items()})


def table_of(name: str, value: object, what: str) -> Mapping[str, Any]:
    """A value that is a table. Raises ConfigError, in which `what` tells people what it holds."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: a table of {what}, got {value!r:.60}")
    return value


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _kind(field: Any) -> type:
    if _required(field):
        return str
    default = field.default if field.default is not MISSING else field.default_factory()
    return float if default is None else type(default)


def typed(name: str, value: Any, kind: type) -> Any:
    """A value of a type; a whole number will do for any number, a tuple is a list of texts. Raises ConfigError."""
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ConfigError(f"{name}: a list of texts expected, got {value!r:.60}")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name}: {kind.__name__} expected, got {value!r:.60}")
    return value


def refuse_unknown(prefix: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ConfigError naming a key that is no field."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: not a field; known are {', '.join(sorted(known)) or 'none'}")
