"""Which photos a command works on and where each result goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..io.photos import READABLE, WRITABLE


@dataclass(frozen=True)
class Job:
    """One photo to restore."""

    source: Path
    target: Path
    compare: Path | None  # before and after side by side; None = not asked for


def find_photos(arguments: Sequence[str]) -> list[Path]:
    """Expand files, folders (not their subfolders) and patterns, in order, each photo once.

    A name that is neither stays in the list and fails when it is read, so that the rest goes on. Raises
    UsageError for a folder or pattern without pictures.
    """
    photos: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in READABLE and p.is_file())
        elif not path.exists() and glob.has_magic(argument):
            found = sorted(p for p in map(Path, glob.glob(argument, recursive=True)) if p.is_file())
        else:
            found = [path]
        if not found:
            raise UsageError(f"{argument}: no pictures there ({', '.join(READABLE)})")
        for photo in found:
            photos.setdefault(photo.resolve(), photo)
    return list(photos.values())


def plan_jobs(photos: Sequence[Path], output: Path, compare: bool) -> list[Job]:
    """Name every result. Raises UsageError when one would overwrite a source, or a file cannot hold many.

    `output` is a file when there is one photo and it has a picture's suffix; else a folder, where results
    keep their photo's name (a second of the same name gets a number).
    """
    single = output.suffix.lower() in WRITABLE and not output.is_dir()
    if single and len(photos) > 1:
        raise UsageError(f"--output {output} is one file, but there are {len(photos)} photos: name a folder")
    if not single and output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file that is no picture: name a folder, or use {', '.join(WRITABLE)}")
    sources = {photo.resolve() for photo in photos}
    taken: set[Path] = set()
    jobs = []
    for photo in photos:
        target = output if single else _free(output / _result_name(photo), taken)
        side_by_side = target.with_name(f"{target.stem}_compare.png") if compare else None
        for path in (target, side_by_side):
            if path is not None and path.resolve() in sources:
                raise UsageError(f"{path} would overwrite a source photo: choose another --output")
        taken |= {path for path in (target, side_by_side) if path}
        jobs.append(Job(photo, target, side_by_side))
    return jobs


def _result_name(photo: Path) -> str:
    return photo.name if photo.suffix.lower() in WRITABLE else f"{photo.stem}.png"


def _free(path: Path, taken: set[Path]) -> Path:
    number, candidate = 2, path
    while candidate in taken:
        candidate = path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1
    return candidate
