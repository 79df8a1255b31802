"""Fetch a file from the Hugging Face Hub into the models folder: resumed, verified, complete or absent.

huggingface-hub handles the protocol, the user's token, mirrors (HF_ENDPOINT) and offline mode. A download grows in a
`.part` file beside its target, which survives an interrupt and is never used as a model; it is renamed to the target
once its length and checksum are right. A second process that wants the same file waits for the first.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..types import Progress
from .atomic import atomic_path, move_into_place
from .catalogue import Remote
from .checksum import sha256
from .process_lock import one_at_a_time
from .retry import PAST_THE_END, CallersError, retry, status_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SHA256_DIGITS = 64


@dataclass(frozen=True)
class HubFile:
    """What the Hub reports about one file."""

    repo: str
    path: str
    commit: str
    size: int  # bytes
    sha256: str  # of a file in Git LFS; else empty
    blob: str  # git's hash of a file outside LFS
    licence: str

    @property
    def name(self) -> str:
        """The file as messages call it: its repository and its path there."""
        return f"{self.repo}/{self.path}"


def fetch(remote: Remote, target: Path, notify: Callable[[str], None], progress: Progress | None = None) -> Path:
    """Download a file to `target` unless it is there; return `target`. Raises ModelError saying what to do."""
    with locked(target, notify):
        if target.is_file():
            return target
        if cached := _from_cache(remote):
            return _take(cached, target, notify)
        found = find(remote)
        # Where there are no symbolic links, as on Windows, cached files are not named by their checksums.
        known = replace(remote, paths=(found.path,), revision=found.commit, sha256=found.sha256)
        if not remote.sha256 and (cached := _from_cache(known)):
            return _take(cached, target, notify)
        part = target.with_name(f".{target.name}.{(found.sha256 or found.blob)[:12]}.part")
        for stale in set(target.parent.glob(f".{target.name}.*.part")) - {part}:
            stale.unlink(missing_ok=True)
        arrived = part.stat().st_size if part.exists() else 0
        check_space(found.name, found.size - arrived, target.parent)
        notify(f"fetching {found.name}: {found.size / 1e6:,.1f} MB, licence: {found.licence}")
        _download(found, part, progress)
        _verify(found, remote, part)
        move_into_place(part, target)
    return target


@contextmanager
def locked(target: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the file lock of `target`, with a notice while another process holds it; freed when this process ends.

    Creates the folder. Raises ModelError when it cannot be written to.
    """
    notice = f"{target.name}: another process is fetching or building it; waiting"
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = target.with_name(f".{target.name}.lock")
            stack.enter_context(one_at_a_time(lock, lambda: notify(notice)))
        except OSError as error:
            remedy = "keep the models folder elsewhere"
            raise ModelError(f"{target.parent}: cannot write there ({error.strerror or error}): {remedy}") from error
        yield


def find(remote: Remote) -> HubFile:
    """Ask the Hub about the first of `remote.paths` that the repository holds. Raises ModelError."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    api = HfApi(endpoint=hub_endpoint())
    advice = f"https://huggingface.co/{remote.repo}"

    def ask() -> Any:
        return api.model_info(remote.repo, revision=remote.revision, files_metadata=True, timeout=30)

    info = retry(ask, advice)
    files = {file.rfilename: file for file in info.siblings or ()}
    for wanted in remote.paths:
        match = wanted if wanted in files else next((f for f in sorted(files) if Path(f).name == wanted), None)
        if match:
            break
    else:
        raise ModelError(f"{advice} holds none of {', '.join(remote.paths)}: check there whether they were moved")
    file, card = files[match], info.card_data
    licence = remote.licence or (card and card.get("license")) or "not stated"
    size, blob, checksum = file.size, file.blob_id, (file.lfs or {}).get("sha256")
    if not size or not (checksum or blob):  # some mirrors' listings omit them; the file's headers do not
        url = hf_hub_url(remote.repo, match, revision=info.sha, endpoint=hub_endpoint())
        metadata = retry(lambda: get_hf_file_metadata(url), advice)
        size, blob = metadata.size or 0, metadata.etag or ""
        checksum = blob if len(blob) == _SHA256_DIGITS else ""
    return HubFile(remote.repo, match, info.sha, size, remote.sha256 or checksum or "", blob or "", str(licence))


def hub_endpoint() -> str | None:
    """The mirror that HF_ENDPOINT names; None = the Hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def check_space(name: str, needed: int, folder: Path) -> None:
    """Raise ModelError unless the disk of `folder` has room for the `needed` bytes that `name` still takes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"{name} needs {needed / 1e6:,.0f} MB more on the disk of {folder}, {free / 1e6:,.0f} MB are free: make "
            "room, or keep the models folder on another disk"
        )


class _GrowingFile(io.BufferedWriter):
    """A file opened for appending that reports how much has arrived."""

    def __init__(self, path: Path, total: int, progress: Progress | None) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._total, self._progress = total, progress

    def write(self, data: Buffer) -> int:
        written = super().write(data)
        if self._progress:
            try:
                self._progress(min(self.tell(), self._total), self._total)
            except Exception as error:
                raise CallersError(error) from error
        return written


def _download(found: HubFile, part: Path, progress: Progress | None) -> None:
    """Download into `part`, resuming where an earlier attempt stopped."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(found.repo, found.path, revision=found.commit, endpoint=hub_endpoint())

    def length() -> int:
        return part.stat().st_size if part.exists() else 0

    def get() -> None:
        if length() > found.size:  # longer than the file: none of it can be trusted
            part.unlink()
        try:
            with _GrowingFile(part, found.size, progress) as file:
                http_get(
                    url,
                    file,
                    resume_size=length(),
                    headers=build_hf_headers(),
                    expected_size=found.size,
                    displayed_filename=found.path,
                )
        except Exception as error:
            if status_of(error) == PAST_THE_END:  # the Hub serves fewer bytes than it lists
                part.unlink(missing_ok=True)  # closed by now: Windows removes no open file
            raise

    retry(get, f"download {found.path} from https://huggingface.co/{found.repo} into {part.parent}", length)


def _verify(found: HubFile, remote: Remote, part: Path) -> None:
    """Check a download against its checksum; on a mismatch, delete it and raise ModelError."""
    header, expected = b"blob %d\0" % found.size, found.sha256 or found.blob
    digest = hashlib.sha256() if found.sha256 else hashlib.sha1(header, usedforsecurity=False)
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    actual = digest.hexdigest()
    if actual != expected:
        part.unlink()
        reason = "is not the file that this version expects" if remote.sha256 else "was damaged in transit"
        raise ModelError(
            f"{found.name} {reason} (checksum {actual[:12]}..., expected {expected[:12]}...); it was "
            "deleted: fetch it again, or update QuantFace"
        )


def _from_cache(remote: Remote) -> Path | None:
    """The file in the Hub's local cache, if its checksum is known and right; else None."""
    from huggingface_hub import try_to_load_from_cache

    for path in remote.paths:
        cached = try_to_load_from_cache(remote.repo, path, revision=remote.revision)
        if isinstance(cached, str):
            blob = Path(cached).resolve()  # named by its checksum
            expected = remote.sha256 or (blob.name if len(blob.name) == _SHA256_DIGITS else "")
            if expected and sha256(blob) == expected:
                return blob
    return None


def _take(cached: Path, target: Path, notify: Callable[[str], None]) -> Path:
    """Hard-link a cached file to `target`, or copy it where the file system has no hard links; return `target`."""
    notify(f"{target.name}: taken from the Hub's local cache")
    try:
        os.link(cached, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(cached, temporary)
    return target
