"""Build a named restorer from its authors' files: fetch them, convert them to one file, delete them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..types import Progress
from .atomic import move_into_place
from .catalogue import Entry, Remote
from .checksum import sha256
from .hub import check_space, fetch, locked


def convert_entry(
    name: str, entry: Entry, target: Path, notify: Callable[[str], None], progress: Progress | None = None
) -> Path:
    """Convert the originals to `target` unless it is there; return `target`. Raises ModelError.

    It may be stopped at any time: downloads resume, and the result is moved into place once it is complete. The
    originals are deleted at the end, since nothing reads them again.
    """
    from .osdface import convert, holds_autoencoder

    with locked(target, notify):
        if target.is_file():
            return target
        folder = target.parent / "originals" / name
        size = sum({remote.paths: remote.size for remote in entry.originals.values()}.values())
        notify(f"{name} is built from its authors' files: about {size / 1e9:.1f} GB to fetch into {target.parent}")
        notify(f"licence: {entry.licence}; {entry.source}")
        arrived = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
        check_space(name, size + entry.size - arrived, target.parent)
        files: dict[str, Path] = {}
        for part, remote in entry.originals.items():
            if part == "vae" and "unet" in files and holds_autoencoder(files["unet"]):
                files[part] = files["unet"]  # a mirror that has only Stable Diffusion's single-file checkpoint
            else:
                files[part] = fetch(remote, folder / _stored(remote), notify, progress)
        digests = {path: sha256(path) for path in set(files.values())}
        checksums = {part: digests[path] for part, path in files.items()}
        # In a folder of its own: what a killed run left there is deleted by the next, at the latest with the originals.
        made = folder / "converted"
        shutil.rmtree(made, ignore_errors=True)
        notify(f"converting into {target}")
        convert(files, made / target.name, {"licence": entry.licence, "originals": json.dumps(checksums)})
        move_into_place(made / target.name, target)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another model's originals may be there
            folder.parent.rmdir()
    return target


def _stored(remote: Remote) -> str:
    """A local name, shared by two parts that come from the same file."""
    return f"{remote.repo}/{remote.paths[0]}".replace("/", "--")
