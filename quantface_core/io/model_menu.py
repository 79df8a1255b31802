"""The models a host's menu offers, by names that say what choosing one takes; and the file of a choice.

Where the files are is the host's to say: it gives a function from a file's name to its path.
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
"""From a file's name in the host's models folders to its path; None when it is not there."""

_ORDER = ("bundled", "local", "fetch", "build")
_MARK = re.compile(r" \((bundled|local|fetch|build)\)$")


def menu_choices(find: Find, files: Iterable[str] = ()) -> list[str]:
    """Models by name, marked by what choosing one takes, the default first; then the host's other files."""
    entries = _entries()
    known = _known_files(entries)
    marks = {name: _mark(entries.get(name), file, find) for name, file in known.items()}
    names = sorted(known, key=lambda name: (name != DEFAULT_RESTORER, _ORDER.index(marks[name])))
    # One with a bundled model's file name is another model: that is in the package.
    listed = {file for name, file in known.items() if marks[name] != "bundled"}
    return [f"{name} ({marks[name]})" for name in names] + [file for file in files if file not in listed]


def strip_mark(choice: str) -> str:
    """A choice without its mark, which a saved one may have from elsewhere."""
    return _MARK.sub("", choice)


def choice_path(choice: str, find: Find, missing: str = "") -> Path | None:
    """The file of a choice; None when it is yet to be fetched or built.

    Raises ModelError when there is no such model, in a host's own words `missing`, or its file is damaged.
    """
    name, entries = strip_mark(choice), _entries()
    known = _known_files(entries)
    if name not in known:
        path = find(choice) or find(choice.replace("\\", "/"))  # saved on Windows
        if path is None:
            there = f"there are {', '.join(known)}, and the files in the models folder"
            raise ModelError(missing or f"no model {choice!r}: {there}")
        return path
    entry, path = entries.get(name), find(known[name])
    return restorer_path(name) if entry and (entry.bundled or (path and entry.sha256)) else path


def known_files() -> dict[str, str]:
    """The files of all models that have names: the catalogues', and what shipped recipes make of those."""
    return _known_files(_entries())


def _known_files(entries: Mapping[str, Entry]) -> dict[str, str]:
    files = {name: entry.file for name, entry in entries.items()}
    for name in known_recipes():
        recipe = load_recipe(name)
        # Trained ones ask for a folder of faces; what there is to make of a bundled one is bundled.
        if recipe.distill is None and recipe.source in entries and not entries[recipe.source].bundled:
            files.setdefault(name, f"{name}.safetensors")
    return files


def _entries() -> dict[str, Entry]:
    """The catalogues' restorers. One that cannot be read is a warning: it must not take the host's menu away."""
    try:
        return catalogue()["restorers"]
    except ConfigError as error:
        logging.warning("QuantFace: %s", error)
        return shipped_catalogue()["restorers"]


def _mark(entry: Entry | None, file: str, find: Find) -> str:
    """`bundled` with the package; `local`: there already; `fetch`: from the Hub; `build`: from its authors' files."""
    if entry and entry.bundled:
        return "bundled"
    if find(file):
        return "local"
    return "fetch" if entry and entry.repo else "build"
