"""The models in a host's menu, each name marked with what choosing it involves, and the file behind a choice.

The host knows where files are: it passes a function from a file's name to its path.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..errors import ConfigError, ModelError
from ..types import DEFAULT_RESTORER
from .catalogue import Entry, catalogue, shipped_catalogue
from .models import restorer_path
from .recipes import known_recipes, load_recipe

Find = Callable[[str], Path | None]
"""Maps a file's name in the host's models folders to its path; None when it is not there."""

_ORDER = ("bundled", "local", "fetch", "build")
_MARK = re.compile(r" \((bundled|local|fetch|build)\)$")


def menu_choices(find: Find, files: Iterable[str] = ()) -> list[str]:
    """Return named models, marked with what choosing one involves, the default first; then the host's other files."""
    entries = _entries()
    known = _known_files(entries)
    marks = {name: _mark(entries.get(name), file, find) for name, file in known.items()}
    names = sorted(known, key=lambda name: (name != DEFAULT_RESTORER, _ORDER.index(marks[name])))
    # A host's file named like a bundled model is another model: the bundled one is in the package.
    listed = {file for name, file in known.items() if marks[name] != "bundled"}
    return [f"{name} ({marks[name]})" for name in names] + [file for file in files if file not in listed]


def strip_mark(choice: str) -> str:
    """Return a choice without its mark, which may be out of date in a saved workflow."""
    return _MARK.sub("", choice)


def choice_path(choice: str, find: Find, missing: str = "") -> Path | None:
    """Return the file of a choice; None when it has yet to be fetched or built.

    Raises ModelError when there is no such model (with the host's own message `missing`, if given) or its file is
    damaged.
    """
    name, entries = strip_mark(choice), _entries()
    known = _known_files(entries)
    if name not in known:
        path = find(choice) or find(choice.replace("\\", "/"))  # saved on Windows
        if path is None:
            there = f"choose one of {', '.join(known)}, or a file in the models folder"
            raise ModelError(missing or f"no model {choice!r}: {there}")
        return path
    entry, path = entries.get(name), find(known[name])
    return restorer_path(name) if entry and (entry.bundled or (path and entry.sha256)) else path


def known_files() -> dict[str, str]:
    """File names of all named models: the catalogue's, and those that the shipped recipes build from them."""
    return _known_files(_entries())


def _known_files(entries: Mapping[str, Entry]) -> dict[str, str]:
    files = {name: entry.file for name, entry in entries.items()}
    for name in known_recipes():
        recipe = load_recipe(name)
        # Recipes that train need a folder of faces; what can be made from a bundled model is bundled itself.
        if recipe.distill is None and recipe.source in entries and not entries[recipe.source].bundled:
            files.setdefault(name, f"{name}.safetensors")
    return files


def _entries() -> dict[str, Entry]:
    """The catalogue's restorers. A user catalogue that cannot be read is only logged: the menu must not go empty."""
    try:
        return catalogue()["restorers"]
    except ConfigError as error:
        logging.warning("QuantFace: %s", error)
        return shipped_catalogue()["restorers"]


def _mark(entry: Entry | None, file: str, find: Find) -> str:
    """`local` for a file that is already there; else how it is obtained (`Entry.kind`)."""
    kind = entry.kind if entry else "build"  # by a recipe
    return "local" if kind != "bundled" and find(file) else kind
