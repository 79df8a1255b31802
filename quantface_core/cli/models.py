"""`quantface models`: list the models known by name, and which of them are on this machine."""

from __future__ import annotations

import argparse
from typing import Any

_EXPLAINED = """
--model NAME accepts any of these: fetch and build run first, and build may take an hour. train needs faces:
quantface build NAME --images FOLDER --output MODELS_FOLDER/NAME.safetensors"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("models", help="list models by name", description=__doc__)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.catalogue import catalogue, models_folder, user_catalogues
    from ..io.models import own_models, stored_at
    from ..io.recipes import known_recipes, load_recipe

    rows = [("NAME", "HOW", "HERE", "SIZE", "FROM", "LICENCE")]
    entries, own = catalogue()["restorers"], own_models()
    for name, entry in entries.items():
        path = stored_at(entry)
        size = path.stat().st_size if path.is_file() else entry.size
        origin = f"huggingface.co/{entry.repo}" if entry.repo else "" if entry.bundled else "its authors' files"
        rows.append((name, entry.kind, _yes(path.is_file()), _megabytes(size), origin, entry.licence))
    recipes = known_recipes()
    for name in recipes:
        recipe = load_recipe(name)
        licence = entries[recipe.source].licence if recipe.source in entries else ""
        file = _megabytes(own[name].stat().st_size) if name in own else ""
        rows.append((name, "train" if recipe.distill else "build", _yes(name in own), file, recipe.source, licence))
    for name in (name for name in own if name not in recipes):
        rows.append((name, "local", "yes", _megabytes(own[name].stat().st_size), "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip())
    print(_EXPLAINED)
    print(f"\nmodels folder: {models_folder()}")
    for path in user_catalogues():
        print(f"your catalogue: {path}")
    return 0


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
