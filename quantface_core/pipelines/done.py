"""What counts as done: of the same photo, with the same settings, and without an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from .. import __version__
from ..errors import QuantFaceError
from ..io.checksum import sha256
from ..io.manifest import Manifest, Record
from ..io.stores import Stamp
from .restore import PhotoResult, RestoreRequest


def settings_of(request: RestoreRequest) -> dict[str, Any]:
    """All that a result depends on, beside its photo. Raises ModelError when the model cannot be read."""
    return {
        "quantface": __version__,
        "model": {"name": request.model.stem, "sha256": sha256(request.model)},
        "options": asdict(request.options),
        "device": request.device.type,
        "backend": request.backend,
        "precision": request.precision,
        "aligned": request.aligned,
        "low_memory": request.low_memory,
        "threads": request.threads,
    }


def settings_key(settings: dict[str, Any]) -> str:
    """A short name of the settings, by which records refer to them."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def is_done(known: Record, key: str, found: Stamp, digest: Callable[[], str]) -> bool:
    """Whether a result's record tells of this photo and these settings; `digest`, the photo's SHA-256, is asked for
    last, and may raise QuantFaceError for one that cannot be read: that is not done, and its result tells why.
    """
    if known["error"] or known["settings"] != key or found.size != known["size"]:
        return False
    if found.mtime_ns == known["mtime_ns"] and found.mtime_ns > 0:
        return True
    try:
        return digest() == known["sha256"]
    except QuantFaceError:
        return False


def keep_foreign(manifest: Manifest, there: Iterable[str]) -> None:
    """Tell a manifest in which no run has begun of the results that lie there: they are not ours, and are left."""
    if manifest.begun:
        return
    for output in there:
        if manifest.get(output) is None:
            manifest.add({"output": output, "foreign": True})


def is_foreign(known: Record) -> bool:
    """Whether a record tells of a result that lay there before the first run."""
    return bool(known.get("foreign"))


def record_of(result: PhotoResult, output: str, source: str, key: str, stamp: Stamp, digest: str) -> dict[str, Any]:
    """A photo's line of the manifest: what was made, called `output` there, of what, and how it went."""
    pages = result.report.pages if result.report else ()
    return {
        "output": output,
        "source": source,
        "settings": key,
        "size": stamp.size,
        "mtime_ns": stamp.mtime_ns,
        "sha256": digest,
        "faces": sum(len(page.faces) for page in pages),
        "restored": sum(len(page.restored) for page in pages),
        "seconds": round(result.seconds, 3),
        "error": result.error,
    }
