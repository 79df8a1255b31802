"""Which photos a command works on and where each result goes."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ..errors import UsageError
from ..io.file_identity import file_identity
from ..io.photos import RAW, READABLE, WRITABLE
from ..io.stores import Stamp
from .result_names import name_results, result_name

_NOT_FOLDERS = (*READABLE, *RAW, ".eps", ".pdf", ".svg")  # suffixes of files, which never name a new folder
RESULTS, FOLDERS = "folders of results (the output)", "subfolders (recursive includes them)"
"""Why a folder is skipped."""

_CLOSED = "folders that cannot be looked into"


@dataclass(frozen=True)
class Origin:
    """What a result was made from, to recognise it later."""

    stamp: Stamp  # of the photo's file, when it was read
    sha256: str  # of its content; empty = it could not be read


@dataclass(frozen=True)
class Job:
    """One photo to restore."""

    source: Path
    target: Path
    compare: Path | None  # before and after side by side; None = not asked for

    def fetch(self) -> Origin | None:
        """Called before `source` is read, in parallel with other photos; for a photo that is not there yet.

        Returns what identifies the photo; None where nothing records it.
        """
        return None

    def deliver(self) -> None:
        """Called once `target` is written, in parallel with other photos; for a result that belongs elsewhere."""


@dataclass
class FoundPhotos:
    """The photos that arguments lead to."""

    photos: list[Path] = field(default_factory=list)
    places: dict[Path, Path] = field(default_factory=dict)  # photo -> its folder relative to the one named
    skipped: Counter[str] = field(default_factory=Counter)  # why -> how many files or folders

    def summary(self) -> str:
        """Skipped files and folders by reason, in one line; empty when nothing was skipped."""
        return skipped_in_words(self.skipped)


def skipped_in_words(skipped: Mapping[str, int]) -> str:
    """How many files or folders were skipped, by reason, in one line; empty when none were."""
    reasons = [f"{count} {why}" for why, count in sorted(skipped.items())]
    return f"skipped: {'; '.join(reasons)}" if reasons else ""


def find_photos(arguments: Sequence[str], recursive: bool = False, output: Path | None = None) -> FoundPhotos:
    """Expand files, folders and patterns, in order, each photo once; subfolders only when `recursive`.

    The `output` folder among them holds results and is skipped, as are subfolders that cannot be read. A name that is
    none of these stays in the list and fails when it is read, so that the rest continue. Raises UsageError for a folder
    or pattern without images, and for a named folder that cannot be read.
    """
    found, seen = FoundPhotos(), set[str]()
    results = output and file_identity(output)
    for argument in arguments:
        path = Path(argument)
        if os.path.isdir(path):  # unlike Path's, these do not raise for names too long and unreadable folders
            photos = list(_of_folder(_entries(path), recursive, found, results))
        elif not os.path.exists(path) and glob.has_magic(argument):
            matches = sorted(p for p in map(Path, _glob(argument)) if os.path.isfile(p))
            photos = [p for p in matches if not _is_side_file(p, found.skipped)]
            if "**" in path.parts:
                photos = list(_beside_results(photos, path, found, results))
        else:
            photos = [path]
        if not photos:
            summary = found.summary()
            raise UsageError(f"{argument}: no photos found ({summary or ', '.join(READABLE)})")
        for photo in photos:
            real = os.path.realpath(photo)
            if real not in seen:
                seen.add(real)
                found.photos.append(photo)
                found.places[photo] = photo.parent.relative_to(path) if os.path.isdir(path) else Path()
    return found


def folder_images(folder: Path) -> list[Path]:
    """The images in a folder; of one with only subfolders, as FFHQ is published, those in them. Raises UsageError."""
    try:
        return find_photos([str(folder)]).photos
    except UsageError:
        return find_photos([str(folder)], recursive=True).photos


def _glob(pattern: str) -> list[str]:
    """What a pattern matches; the brackets in the name of a folder that exists are its own."""
    folder, name = os.path.split(pattern)
    if os.path.isdir(folder):
        pattern = os.path.join(glob.escape(folder), name)
    return glob.glob(pattern, recursive=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: cannot look into it ({error.strerror})") from None


def _of_folder(entries: list[Path], recursive: bool, found: FoundPhotos, output: Hashable) -> Iterator[Path]:
    """Yield the images among a folder's entries and, if `recursive`, in its subfolders; count what is skipped."""
    for path in entries:
        if os.path.isdir(path):
            if path.name.startswith("."):
                continue
            if recursive and file_identity(path) == output:
                found.skipped[RESULTS] += 1
            elif recursive and not path.is_symlink():  # a link may be circular
                try:
                    inner = _entries(path)
                except UsageError:
                    found.skipped[_CLOSED] += 1
                    continue
                yield from _of_folder(inner, recursive, found, output)
            else:
                found.skipped[FOLDERS] += 1
        elif is_picture(path, found.skipped):
            yield path


def _beside_results(photos: list[Path], pattern: Path, found: FoundPhotos, output: Hashable) -> Iterator[Path]:
    """Yield a pattern's photos that are not in the output, when that is below where `**` begins to search."""
    start = len(pattern.parts[: pattern.parts.index("**")])
    folders = {folder: file_identity(folder) == output for photo in photos for folder in photo.parents}
    results = {folder for folder, is_output in folders.items() if is_output and len(folder.parts) > start}
    found.skipped[RESULTS] += len(results)
    for photo in photos:
        if results.isdisjoint(photo.parents):
            yield photo


def is_picture(path: PurePath, skipped: Counter[str]) -> bool:
    """Whether a folder's file is an image to restore, by its name; counts why it is not."""
    if _is_side_file(path, skipped) or path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in RAW:
        skipped["camera raw files (develop them first)"] += 1
    elif suffix not in READABLE:
        skipped[f"{suffix or 'files without suffix'} (not an image)"] += 1
    return suffix in READABLE


def _is_side_file(path: PurePath, skipped: Counter[str]) -> bool:
    """Whether a file is what macOS writes beside each file on other systems' disks."""
    if path.name.startswith("._"):
        skipped["._ files of macOS"] += 1
        return True
    return False


def plan_jobs(found: FoundPhotos, output: Path, compare: bool, suffixes: Sequence[str] = ()) -> list[Job]:
    """Name every result. Raises UsageError when one would overwrite a source, or one file is named for many photos.

    `output` is a file when there is one photo and it has an image's suffix; else a folder, where results keep their
    photo's name and subfolder (a second of the same name gets a number). `suffixes` are as for `result_name`.
    """
    photos = found.photos
    suffix, writable = output.suffix.lower(), ", ".join(suffixes or WRITABLE)
    single = suffix in WRITABLE and not os.path.isdir(output)
    if suffix in _NOT_FOLDERS and not single and not os.path.isdir(output):
        raise UsageError(f"output {output}: cannot write {suffix}; use {writable}, or name a folder")
    if single and len(photos) > 1:
        raise UsageError(f"output {output} is one file, but there are {len(photos)} photos: name a folder")
    if single and suffixes and suffix not in suffixes:
        raise UsageError(f"output {output} is not {suffixes[0]}: end its name so, or leave the format out")
    if not single and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"output {output} is a file but not an image: name a folder, or use {writable}")
    sources = {file_identity(photo) for photo in photos}
    named = [found.places.get(photo, Path()) / result_name(photo, suffixes) for photo in photos]
    wanted = [output] if single else [output / name for name in named]
    jobs = []
    for photo, (target, side_by_side) in zip(photos, name_results(photos, wanted, compare), strict=True):
        for path in (target, side_by_side):
            if path is not None and file_identity(path) in sources:
                raise UsageError(f"{path} would overwrite a source photo: choose another output")
        jobs.append(Job(photo, target, side_by_side))
    return jobs
