"""The catalogue of named model files, which are bundled, fetched or built."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .tables import read_toml, refuse_unknown, table_of, value_of

PARTS = ("unet", "vae", "embedder", "projection", "lora")
"""The originals that a restorer is built from; unet and vae may be one file."""

_KINDS = ("restorers", "detectors")
_PLAIN = re.compile(r"[\w][\w.+-]*")


@dataclass(frozen=True)
class Remote:
    """One file in a Hugging Face repository."""

    repo: str
    paths: tuple[str, ...]  # where it may be in the repository, best first; a bare name is found in any folder
    revision: str = "main"
    size: int = 0  # bytes; 0 = not known before the Hub is asked
    sha256: str = ""  # empty = the Hub's own is checked
    licence: str = ""


@dataclass(frozen=True)
class Entry:
    """One named file: bundled, fetched from `repo`, or built from `originals`."""

    file: str  # its name in the models folder, or in the package
    licence: str
    sha256: str = ""  # empty = not known beforehand
    size: int = 0  # bytes; 0 = not known
    bundled: bool = False  # shipped inside the package
    source: str = ""  # its origin, for users to read
    repo: str | None = None  # Hugging Face repository, when it can be fetched
    path: str = ""  # in the repository; empty = `file`
    revision: str = "main"
    originals: Mapping[str, Remote] = field(default_factory=dict)  # what it is built from, by part

    @property
    def kind(self) -> str:
        """How the file is obtained: `bundled` in the package, by a `fetch` from the Hub, or by a `build`."""
        return "bundled" if self.bundled else "fetch" if self.repo else "build"

    @property
    def remote(self) -> Remote:
        """Where a fetched file is."""
        assert self.repo is not None
        return Remote(self.repo, (self.path or self.file,), self.revision, self.size, self.sha256, self.licence)


Catalogue = dict[str, dict[str, Entry]]
"""Entries by name, by kind (restorers, detectors)."""


def catalogue() -> Catalogue:
    """The shipped catalogue, overridden by the user's own entries. Raises ConfigError naming file and field."""
    merged = shipped_catalogue()
    for path in user_catalogues():
        for kind, entries in _read(path).items():
            merged[kind] |= entries
    return merged


def shipped_catalogue() -> Catalogue:
    """The catalogue inside the package."""
    return {kind: {} for kind in _KINDS} | _read(Path(__file__).parent / "catalogue.toml")


def user_catalogues() -> list[Path]:
    """The user's own catalogues: the models folder's, then the one QUANTFACE_CATALOGUE names."""
    chosen = os.environ.get("QUANTFACE_CATALOGUE")
    return [*in_models_folder("catalogue.toml"), *([Path(chosen).expanduser()] if chosen else [])]


def models_folder() -> Path:
    """Where fetched and built files live: QUANTFACE_MODELS_DIR, else the user's cache folder.

    Raises ConfigError where the user has neither, as in containers whose user has no home.
    """
    chosen = os.environ.get("QUANTFACE_MODELS_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "quantface" / "models"
    except RuntimeError:  # no home folder
        raise ConfigError("this user has no home folder to keep models in: name a models folder") from None


def in_models_folder(pattern: str) -> list[Path]:
    """The files in the models folder that match a pattern, sorted; none where there is no folder that may be read."""
    with suppress(ConfigError, OSError):
        return sorted(path for path in models_folder().glob(pattern) if os.path.isfile(path))
    return []


def _read(path: Path) -> Catalogue:
    table = read_toml(path, "catalogue")
    try:
        unknown = sorted(set(table) - set(_KINDS))
        if unknown:
            raise ConfigError(f"{unknown[0]}: unknown section; sections are {' and '.join(_KINDS)}")
        tables = {kind: table_of(kind, entries, "models by name") for kind, entries in table.items()}
        return {kind: {name: _entry(name, e) for name, e in entries.items()} for kind, entries in tables.items()}
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _entry(name: str, table: Any) -> Entry:
    if not _PLAIN.fullmatch(name):  # its originals are kept in a folder of that name
        raise ConfigError(f"{name!r:.60}: expected a plain name, of letters, digits, dots, dashes and underscores")
    table = table_of(name, table, ", ".join(field.name for field in fields(Entry)))
    originals = table_of(f"{name}.originals", table.get("originals", {}), "files by part")
    checked = {part: _remote(f"{name}.originals.{part}", remote) for part, remote in originals.items()}
    if checked:
        refuse_unknown(f"{name}.originals.", checked, PARTS)
        if missing := [part for part in PARTS if part not in checked]:
            raise ConfigError(f"{name}.originals.{missing[0]}: missing; a model is built from {', '.join(PARTS)}")
    entry: Entry = _value(Entry, name, {**table, "originals": checked})
    if not _PLAIN.fullmatch(entry.file):
        raise ConfigError(f"{name}.file: expected a plain file name, got {entry.file!r:.60}")
    if entry.bundled + bool(entry.repo) + bool(entry.originals) != 1:
        raise ConfigError(f"{name}: give exactly one of repo, originals and bundled")
    return entry


def _remote(name: str, table: Any) -> Remote:
    remote: Remote = _value(Remote, name, table)
    if not remote.paths:
        raise ConfigError(f"{name}.paths: give at least one")
    return remote


def _value(cls: type, name: str, table: Any) -> Any:
    """An Entry or a Remote from a table, its checksum's form checked. Raises ConfigError."""
    value = value_of(cls, name, table, {"paths": tuple, "repo": str})
    if value.sha256 and not re.fullmatch("[0-9a-f]{64}", value.sha256):
        raise ConfigError(f"{name}.sha256: expected 64 hexadecimal digits")
    return value
