"""Settings that users write: TOML files, and their sections as frozen dataclasses, checked field by field."""

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
    """Read a file's tables. Raises ConfigError, whose message calls the file `what`."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors prepend a byte order mark
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the {what} ({error})") from error


def value_of(cls: type, name: str, table: object, kinds: Mapping[str, type] | None = None) -> Any:
    """Build a dataclass from a table. Raises ConfigError naming the field, prefixed with `name`.

    A field's type is the one in `kinds`, else the type of its default (float for None), else, without a default, str.
    """
    known = {field.name: field for field in fields(cls)}
    table = table_of(name, table, ", ".join(known))
    refuse_unknown(f"{name}.", table, known)
    if missing := [n for n, field in known.items() if n not in table and _required(field)]:
        raise ConfigError(f"{name}.{missing[0]}: missing")
    wanted = {key: (kinds or {}).get(key) or _kind(known[key]) for key in table}
    return cls(**{key: typed(f"{name}.{key}", value, wanted[key]) for key, value in table.items()})


def table_of(name: str, value: object, what: str) -> Mapping[str, Any]:
    """Return a value that must be a table. Raises ConfigError, whose message says the table holds `what`."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected a table of {what}, got {value!r:.60}")
    return value


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _kind(field: Any) -> type:
    if _required(field):
        return str
    default = field.default if field.default is not MISSING else field.default_factory()
    return float if default is None else type(default)


def typed(name: str, value: Any, kind: type) -> Any:
    """Return a value that must be of type `kind`: float also accepts an int, tuple takes a list of strings.

    Raises ConfigError.
    """
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ConfigError(f"{name}: expected a list of strings, got {value!r:.60}")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name}: expected {kind.__name__}, got {value!r:.60}")
    return value


def refuse_unknown(prefix: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ConfigError naming the first key that is not in `known`."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: unknown field; known are {', '.join(sorted(known)) or 'none'}")
