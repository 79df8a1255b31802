"""The files that a command wrote."""

from __future__ import annotations

from pathlib import Path


def listing(folder: Path) -> list[str]:
    """The sorted names of all files and folders in a folder, which may be missing."""
    return sorted(p.name for p in folder.rglob("*")) if folder.exists() else []
