"""Locate model files, by catalogue name or by path: bundled, fetched or built on request."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelError, suggestion
from ..types import Progress
from .catalogue import Entry, catalogue, in_models_folder, models_folder
from .checksum import known_sha256
from .hub import fetch

_MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".gguf", ".onnx")  # of files, whatever they hold
_FILES_ONLY = ("gfpgan", "restoreformer", "codeformer")  # restorers that users bring themselves: docs/models.md
_PACKAGE = Path(__file__).parent.parent
# Files are looked for by `os.path.isfile`: before Python 3.14 `Path.is_file` raises where a folder may not be read.

Notify = Callable[[str], None]
"""Called with a line on what is about to be fetched: its size, origin and licence."""


def to_stderr(message: str) -> None:
    """The default `Notify`: print to stderr, where the progress bars are."""
    print(message, file=sys.stderr, flush=True)


def restorer_path(name: str | Path, notify: Notify = to_stderr, progress: Progress | None = None) -> Path:
    """Return the file of a restorer named in the catalogue or given by path.

    A missing file is first fetched, or built from its authors' files. The checksum of a named file is verified, so that
    a damaged download or package is never used. Raises ModelError, and ConfigError for a broken catalogue or without a
    folder to keep models in.
    """
    name = os.fspath(name)
    if name.lower().endswith(_MODEL_SUFFIXES) or Path(name).name != name:
        given = Path(os.path.expanduser(name))
        if os.path.isfile(given):  # no catalogue is read for it, which may be broken
            return given
        own = own_models()
        path = own.get(name) or own.get(name.removesuffix(".safetensors"))
        if path is None:
            raise ModelError(f"{name}: no such model file")
        return path
    known, own = catalogue()["restorers"], own_models()
    if name in own:
        return own[name]
    if name not in known:
        from .recipes import known_recipes

        if name in known_recipes():
            raise ModelError(f"{name} is not built yet: run `quantface build {name}`, then name its file")
        if Path(name).is_file():  # of another kind: who opens it says of which
            return Path(name)
        if name.lower().startswith(_FILES_ONLY):
            raise ModelError(f"{name} is not in the catalogue: give its file, such as folder/{name}.pth")
        names = (*known, *known_recipes())
        reason = f"unknown model {name!r}: give a file, or one of {', '.join(names)}"
        raise ModelError(reason + suggestion(name, names))
    return _located(name, known[name], notify, progress)


def detector_path(notify: Notify = to_stderr) -> Path:
    """Return the face detector's file. Raises ModelError."""
    return _located("yunet", catalogue()["detectors"]["yunet"], notify)


def stored_at(entry: Entry) -> Path:
    """Where an entry's file is, or will be."""
    return (_PACKAGE / "weights" if entry.bundled else models_folder()) / entry.file


def stated_licence(path: Path) -> str:
    """The licence that the catalogue states for a restorer's file; empty where it does not list the file."""
    entries = (entry for entry in catalogue()["restorers"].values() if entry.file == path.name)
    return next((entry.licence for entry in entries if stored_at(entry) == path), "")


def own_models() -> dict[str, Path]:
    """The user's own files in the models folder, by name: those that no catalogue lists.

    A file named like a bundled model, which is in the package, is listed under its full file name.
    """
    known = catalogue()["restorers"]
    listed = {entry.file for entry in known.values() if not entry.bundled}
    bundled = {entry.file for entry in known.values() if entry.bundled}
    files = [path for path in in_models_folder("*.safetensors") if not path.name.startswith(".")]
    return {p.name if p.name in bundled else p.stem: p for p in files if p.name not in listed}


def _located(name: str, entry: Entry, notify: Notify, progress: Progress | None = None) -> Path:
    path = stored_at(entry)
    if not os.path.isfile(path):
        if entry.bundled:
            raise ModelError(f"{path} is missing: install QuantFace again")
        if entry.repo:
            return fetch(entry.remote, path, notify, progress)
        from .convert import convert_entry

        return convert_entry(name, entry, path, notify, progress)
    actual = known_sha256(path) if entry.sha256 else ""
    if actual != entry.sha256:
        remedy = "install QuantFace again" if entry.bundled else "delete it to fetch it again"
        raise ModelError(f"{path} is damaged (sha256 {actual[:12]}..., expected {entry.sha256[:12]}...): {remedy}")
    return path
