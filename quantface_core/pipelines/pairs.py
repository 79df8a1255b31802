"""Match degraded faces with their originals: by name, whatever the suffix."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from .jobs import folder_images

Files = tuple[Path, Path | None]
"""(degraded, original or None)."""


def find_pairs(
    lq: Path, gt: Path | None, degraded: bool, count: int | None, field: str = "lq"
) -> tuple[dict[str, Files], list[str]]:
    """Return ({name: (degraded file, original file or None)}, the files that only one folder has).

    With `degraded` one file is both. There are at most `count` pairs. `field` is what messages call `lq`. Raises
    UsageError when no pair is left, two files have one name, or options conflict.
    """
    if gt and degraded:
        raise UsageError("degrade makes the originals of the faces in lq: leave gt out")
    if count is not None and count < 1:
        raise UsageError(f"count is at least 1, got {count}")
    inputs, originals = _by_stem(field, lq), _by_stem("gt", gt) if gt else None
    if originals is None:
        pairs = {stem: (path, path if degraded else None) for stem, path in inputs.items()}
        unpaired = []
    else:
        pairs = {stem: (path, originals[stem]) for stem, path in inputs.items() if stem in originals}
        unpaired = sorted(
            str(p) for a, b in ((inputs, originals), (originals, inputs)) for s, p in a.items() if s not in b
        )
    if not pairs:
        raise UsageError(f"no face in {lq} has an original of the same name in {gt}")
    return dict(list(pairs.items())[:count]), unpaired


def _by_stem(field: str, folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{field} {folder}: no such folder")
    found: dict[str, Path] = {}
    for path in folder_images(folder):
        if path.stem in found:
            both = " and ".join(str(one.relative_to(folder)) for one in (found[path.stem], path))
            raise UsageError(f"{field}: {both} have the same name: keep one of them")
        found[path.stem] = path
    return found
