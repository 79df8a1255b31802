"""Fetch a file from the Hugging Face Hub into the models folder: resumed, verified, whole or not there.

huggingface-hub knows the protocol, the user's token, mirrors (HF_ENDPOINT) and offline mode. A download
grows in a `.part` file beside its target, which survives an interrupt and is never used as a model; it
takes the target's name once its length and checksum are right. Whoever asks second waits for the first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import ModelError
from .atomic import atomic_path
from .catalogue import Remote

_PAST_THE_END = 416
_WAITS = (1, 4)  # seconds between attempts that got no further; the client itself waits on 429


@dataclass(frozen=True)
class Found:
    """What the Hub says of one file."""

    repo: str
    path: str
    commit: str
    size: int  # bytes
    sha256: str  # of a file in large file storage; else empty
    blob: str  # git's hash of a small file
    licence: str

    @property
    def name(self) -> str:
        return f"{self.repo}/{self.path}"


def fetch(remote: Remote, target: Path, tell: Callable[[str], None]) -> Path:
    """Bring a file to `target` unless it is there; returns `target`. Raises ModelError saying what to do."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target, tell):
        if target.is_file():
            return target
        cached = _from_cache(remote)
        if cached:
            tell(f"{target.name}: taken from the Hub's local cache")
            _link(cached, target)
            return target
        found = find(remote)
        part = target.with_name(f".{target.name}.{(found.sha256 or found.blob)[:12]}.part")
        for stale in set(target.parent.glob(f".{target.name}.*.part")) - {part}:
            stale.unlink(missing_ok=True)
        _check_space(found, part)
        tell(f"fetching {found.name}: {found.size / 1e6:,.1f} MB, licence: {found.licence}")
        _download(found, part)
        _verify(found, remote, part)
        part.replace(target)
    return target


def locked(target: Path, tell: Callable[[str], None]) -> Any:
    """Held by the one process that makes `target`; another's wait is told. Let go when the process dies."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        tell(f"{target.name}: another process is making it, waiting")
        lock.acquire()
    return _Held(lock)


class _Held:
    def __init__(self, lock: FileLock) -> None:
        self.lock = lock

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def find(remote: Remote) -> Found:
    """Ask the Hub for the first of the paths that the repository has. Raises ModelError."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_endpoint())
    advice = f"https://huggingface.co/{remote.repo}"

    def ask() -> Any:
        return api.model_info(remote.repo, revision=remote.revision, files_metadata=True, timeout=30)

    info = _attempts(ask, lambda: 0, advice)
    files = {file.rfilename: file for file in info.siblings or ()}
    for wanted in remote.paths:
        match = wanted if wanted in files else next((f for f in sorted(files) if Path(f).name == wanted), None)
        if match:
            break
    else:
        raise ModelError(f"{advice} holds none of {', '.join(remote.paths)}: look there for what became of them")
    file = files[match]
    card = info.card_data
    licence = remote.licence or (card and card.get("license")) or "not stated"
    large = file.lfs or {}
    size, checksum = file.size or 0, remote.sha256 or large.get("sha256") or ""
    return Found(remote.repo, match, info.sha, size, checksum, file.blob_id or "", str(licence))


def hub_endpoint() -> str | None:
    """The mirror that HF_ENDPOINT names; None = the Hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def _check_space(found: Found, part: Path) -> None:
    missing = found.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise ModelError(
            f"{found.name} needs {missing / 1e6:,.0f} MB more on the disk of {part.parent}, {free / 1e6:,.0f} MB are "
            "free: make room, or choose another disk with QUANTFACE_MODELS_DIR"
        )


def _download(found: Found, part: Path) -> None:
    """Let `part` grow to the whole file, from where an earlier attempt left it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(found.repo, found.path, revision=found.commit, endpoint=hub_endpoint())

    def length() -> int:
        return part.stat().st_size if part.exists() else 0

    def get() -> None:
        if length() > found.size:  # grew past the end: nothing of it can be trusted
            part.unlink()
        with part.open("ab") as file:
            try:
                http_get(
                    url,
                    file,
                    resume_size=length(),
                    headers=build_hf_headers(),
                    expected_size=found.size,
                    displayed_filename=found.path,
                )
            except Exception as error:
                if _status(error) == _PAST_THE_END:  # what the Hub serves is shorter than what it lists
                    part.unlink(missing_ok=True)
                raise

    _attempts(get, length, f"download {found.path} from https://huggingface.co/{found.repo} into {part.parent}")


def _attempts(work: Callable[[], Any], progress: Callable[[], int], advice: str) -> Any:
    """Try, and try again after a passing failure; attempts that brought something on do not count."""
    waits, before = iter(_WAITS), progress()
    while True:
        try:
            return work()
        except Exception as error:  # the client raises its own, its transport's and the system's errors
            if not _passing(error):
                raise ModelError(explained(error, advice)) from error
            if progress() > before:
                waits, before = iter(_WAITS), progress()
            wait = next(waits, None)
            if wait is None:
                raise ModelError(explained(error, advice)) from error
            time.sleep(wait)


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _passing(error: Exception) -> bool:
    """Whether trying again may help."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return False
    status = _status(error)
    return status is None or status == 429 or status >= 500


def explained(error: Exception, advice: str) -> str:
    """One line: what went wrong and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status, again = _status(error), "give the command again: what has arrived is kept"
    if isinstance(error, OfflineModeIsEnabled):
        return f"offline mode is on (HF_HUB_OFFLINE) and the file is not here: turn it off, or {_lower(advice)}"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: make room, then {again}"
    if status in (401, 403):
        return f"the Hub denies access ({status}): accept the terms at {_page(advice)}, then `hf auth login`"
    if status == 404:
        return f"the Hub has no such file or repository ({status}), or it is private: see {_page(advice)}"
    if status == _PAST_THE_END:
        return f"the file on the Hub changed while it was fetched: {again}"
    if status == 429:
        return f"the Hub wants us to slow down ({status}): wait some minutes or log in, then {again}"
    if status:
        return f"the Hub has trouble ({status}): try later; {again}"
    lines = str(error).strip().splitlines()
    return f"the Hub cannot be used ({lines[0] if lines else type(error).__name__}): {again}, or {_lower(advice)}"


def _page(advice: str) -> str:
    return next(word for word in advice.split() if word.startswith("https://"))


def _lower(advice: str) -> str:
    return f"get it from {advice}" if advice.startswith("https://") else advice


def _verify(found: Found, remote: Remote, part: Path) -> None:
    """Delete a download that is not what was promised, and raise ModelError."""
    blob = hashlib.sha1(b"blob %d\0" % found.size, usedforsecurity=False)
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            blob.update(block)
    actual, expected = (digest, found.sha256) if found.sha256 else (blob, found.blob)
    if actual.hexdigest() != expected:
        part.unlink()
        reason = "holds another file than this version expects" if remote.sha256 else "was damaged on its way"
        raise ModelError(
            f"{found.name} {reason} (checksum {actual.hexdigest()[:12]}..., expected {expected[:12]}...); it was "
            "deleted: fetch it again, or update quantface"
        )


def _from_cache(remote: Remote) -> Path | None:
    """The file from the Hub's own cache, where its checksum can be told and is right."""
    from huggingface_hub import try_to_load_from_cache

    from .models import sha256

    for path in remote.paths:
        cached = try_to_load_from_cache(remote.repo, path, revision=remote.revision)
        if isinstance(cached, str):
            blob = Path(cached).resolve()  # named by its checksum
            expected = remote.sha256 or (blob.name if len(blob.name) == 64 else "")
            if expected and sha256(blob) == expected:
                return blob
    return None


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        try:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        except OSError as error:
            raise ModelError(f"{target}: cannot write ({error.strerror})") from error
