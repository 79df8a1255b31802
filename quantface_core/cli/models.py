"""`quantface models`: the models that have names, and which of them are here."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("models", help="list models by name", description=__doc__)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.catalogue import catalogue, models_folder, user_catalogues
    from ..io.models import own_models, stored_at
    from ..io.recipes import known_recipes

    rows = [("NAME", "", "HERE", "SIZE", "LICENCE")]
    for name, entry in catalogue()["restorers"].items():
        path = stored_at(entry)
        size = path.stat().st_size if path.is_file() else entry.size
        origin = f"huggingface.co/{entry.repo}" if entry.repo else entry.kind
        rows.append((name, origin, "yes" if path.is_file() else "no", f"{size / 1e6:,.0f} MB", entry.licence))
    own, recipes = own_models(), known_recipes()
    for name in [*recipes, *(name for name in own if name not in recipes)]:
        kind, here = "recipe" if name in recipes else "yours", "yes" if name in own else "no"
        rows.append((name, kind, here, f"{own[name].stat().st_size / 1e6:,.0f} MB" if name in own else "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip())
    print(f"\nmodels folder: {models_folder()}")
    for path in user_catalogues():
        print(f"your catalogue: {path}")
    return 0
