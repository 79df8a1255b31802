"""Where model files are: by name from the catalogue, by path, bundled, local or on the Hub."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ModelError
from .atomic import atomic_path

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Entry:
    """One file of the catalogue."""

    file: str
    sha256: str
    licence: str
    bundled: bool = False  # shipped inside the package
    repo: str | None = None  # Hugging Face repository, when it can be fetched


@cache
def catalogue() -> dict[str, dict[str, Entry]]:
    """The catalogue's sections, each from name to entry."""
    text = (Path(__file__).parent / "catalogue.toml").read_text("utf-8")
    return {kind: {n: Entry(**e) for n, e in names.items()} for kind, names in tomllib.loads(text).items()}


def models_folder() -> Path:
    """Where fetched files live: QUANTFACE_MODELS_DIR, else the user's cache folder."""
    chosen = os.environ.get("QUANTFACE_MODELS_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "quantface" / "models"


def restorer_path(name: str) -> Path:
    """The file of a restorer named in the catalogue or given by path. Raises ModelError.

    The checksum of a named file is verified, so that a damaged download or package is never used.
    """
    if name.endswith(".safetensors") or os.sep in name:
        if not Path(name).is_file():
            raise ModelError(f"{name}: no such model file")
        return Path(name)
    known = catalogue()["restorers"]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ModelError(f"unknown model {name!r}.{hint} Known: {', '.join(known)}; or give a .safetensors file")
    return _located(known[name])


def detector_path() -> Path:
    """The face detector's file: the models folder's, else fetched from the Hub into it. Raises ModelError."""
    return _located(catalogue()["detectors"]["yunet"])


def _located(entry: Entry) -> Path:
    path = (_PACKAGE / "weights" if entry.bundled else models_folder()) / entry.file
    if not path.is_file():
        if entry.repo is None:
            raise ModelError(f"{path} is missing: install quantface again")
        _fetch(entry, path)
    actual = sha256(path)
    if actual != entry.sha256:
        remedy = "install quantface again" if entry.bundled else "delete it to fetch it again"
        raise ModelError(f"{path} is damaged (sha256 {actual[:12]}..., expected {entry.sha256[:12]}...): {remedy}")
    return path


def _fetch(entry: Entry, path: Path) -> None:
    """Download through huggingface-hub, check, and move into place."""
    from huggingface_hub import hf_hub_download

    assert entry.repo is not None
    advice = f"download {entry.file} from huggingface.co/{entry.repo} and put it into {path.parent}"
    try:
        cached = Path(hf_hub_download(entry.repo, entry.file))
        if sha256(cached) != entry.sha256:
            raise ModelError(f"{entry.repo} now holds another {entry.file} than this version expects; {advice}")
        with atomic_path(path) as temporary:
            temporary.write_bytes(cached.read_bytes())
    except ModelError:
        raise
    except Exception as error:  # the client raises its own, requests', httpx's and the system's errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"cannot fetch the face detector ({reason}); {advice}, or use --aligned") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    return digest.hexdigest()
