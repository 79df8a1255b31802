"""Where model files are: by name from the catalogue or by path; bundled, fetched or built when asked for."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .catalogue import Catalogue, Entry, catalogue, models_folder
from .checksum import known_sha256, sha256

if TYPE_CHECKING:
    from .hub import Progress

__all__ = [
    "Catalogue",
    "Entry",
    "catalogue",
    "detector_path",
    "known_sha256",
    "models_folder",
    "own_models",
    "restorer_path",
    "sha256",
    "stated_licence",
    "stored_at",
]

_MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".gguf", ".onnx")  # of files, whatever is in them
_PACKAGE = Path(__file__).parent.parent

Notify = Callable[[str], None]
"""Told, in words, what is about to be fetched: how large, from where, under which licence."""


def to_stderr(message: str) -> None:
    """Where news goes unless somebody asks for it: beside the progress bars."""
    print(message, file=sys.stderr, flush=True)


def restorer_path(name: str, notify: Notify = to_stderr, progress: Progress | None = None) -> Path:
    """The file of a restorer named in the catalogue or given by path. Raises ModelError.

    A file that is not there is fetched, or built from its authors' files, first. The checksum of a named
    file is verified, so that a damaged download or package is never used.
    """
    if name.lower().endswith(_MODEL_SUFFIXES) or Path(name).name != name:
        given, own = Path(os.path.expanduser(name)), own_models()
        path = given if given.is_file() else own.get(name) or own.get(name.removesuffix(".safetensors"))
        if path is None:
            raise ModelError(f"{name}: no such model file")
        return path
    known, own = catalogue()["restorers"], own_models()
    if name in own:
        return own[name]
    if name not in known:
        from .recipes import known_recipes

        if name in known_recipes():
            raise ModelError(f"{name} is not here yet: make it with `quantface build {name}`, then name its file")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        names = ", ".join((*known, *known_recipes()))
        raise ModelError(f"unknown model {name!r}.{hint} Known: {names}; or give a file")
    return _located(name, known[name], notify, progress)


def detector_path(notify: Notify = to_stderr) -> Path:
    """The face detector's file. Raises ModelError."""
    return _located("yunet", catalogue()["detectors"]["yunet"], notify)


def stored_at(entry: Entry) -> Path:
    """Where an entry's file is, or will be."""
    return (_PACKAGE / "weights" if entry.bundled else models_folder()) / entry.file


def stated_licence(path: Path) -> str:
    """The licence that the catalogue states of a restorer's file; empty where it does not list the file."""
    return next((e.licence for e in catalogue()["restorers"].values() if stored_at(e) == path), "")


def own_models() -> dict[str, Path]:
    """The user's own files in the models folder, by name: those that no catalogue lists.

    One that is named like a bundled file, which is in the package, goes by its whole file name.
    """
    known = catalogue()["restorers"]
    listed = {entry.file for entry in known.values() if not entry.bundled}
    bundled = {entry.file for entry in known.values() if entry.bundled}
    files = [path for path in sorted(models_folder().glob("*.safetensors")) if not path.name.startswith(".")]
    return {p.name if p.name in bundled else p.stem: p for p in files if p.name not in listed}


def _located(name: str, entry: Entry, notify: Notify, progress: Progress | None = None) -> Path:
    path = stored_at(entry)
    if not path.is_file():
        if entry.bundled:
            raise ModelError(f"{path} is missing: install QuantFace again")
        if entry.repo:
            from .hub import fetch

            return fetch(entry.remote, path, notify, progress)
        from .convert import convert_entry

        return convert_entry(name, entry, path, notify, progress)
    actual = known_sha256(path) if entry.sha256 else ""
    if actual != entry.sha256:
        remedy = "install QuantFace again" if entry.bundled else "delete it to fetch it again"
        raise ModelError(f"{path} is damaged (sha256 {actual[:12]}..., expected {entry.sha256[:12]}...): {remedy}")
    return path
