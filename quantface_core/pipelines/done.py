"""What counts as done: the same photo, with the same settings, and without an error."""

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
from ..io.stores import GONE, Stamp
from ..options import RestoreOptions
from .jobs import Origin
from .models import Execution
from .restore import PhotoResult


def settings_of(
    execution: Execution, options: RestoreOptions, aligned: bool = False, scratches: bool = False
) -> dict[str, Any]:
    """Everything a result depends on besides its photo, ready for JSON.

    Raises ModelError when the model cannot be read.
    """
    upscaler = execution.upscaler
    return {
        "quantface": __version__,
        "model": {"name": execution.model.stem, "sha256": sha256(execution.model)},
        **({"upscaler": {"name": upscaler.stem, "sha256": sha256(upscaler)}} if upscaler else {}),
        "options": asdict(options),
        "device": execution.device.type,
        "backend": execution.backend,
        "precision": execution.precision,
        "aligned": aligned,
        **({"scratches": True} if scratches else {}),
        "low_memory": execution.low_memory,
        "threads": execution.threads,
    }


def settings_key(settings: dict[str, Any]) -> str:
    """A short hash of the settings, by which records refer to them."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def is_done(known: Record, source: str, key: str, found: Stamp, digest: Callable[[], str]) -> bool:
    """Whether a result's record is of this photo, with these settings, and without an error.

    A stamp identifies the photo only where its name is as before: another folder's may have the same. `digest` returns
    the photo's SHA-256 and is called last; where it raises QuantFaceError the photo is not done, and
    its result says why.
    """
    if known["error"] or known["settings"] != key or found.size != known["size"]:
        return False
    if source == known["source"] and found.mtime_ns == known["mtime_ns"] and found.mtime_ns > 0:
        return True
    try:
        return digest() == known["sha256"]
    except QuantFaceError:
        return False


def keep_foreign(manifest: Manifest, there: Iterable[str]) -> None:
    """Record existing results in a manifest in which no run has begun: they are not ours, and are left alone."""
    if manifest.begun:
        return
    for output in there:
        if manifest.get(output) is None:
            manifest.add({"output": output, "foreign": True})


def is_foreign(known: Record) -> bool:
    """Whether a record is of a result that was there before the first run."""
    return bool(known.get("foreign"))


def record_of(result: PhotoResult, output: str, key: str) -> dict[str, Any]:
    """A photo's line in the manifest: the result, named `output`, what it was made from, and how it went."""
    pages = result.report.pages if result.report else ()
    origin = result.origin or Origin(GONE, "")
    return {
        "output": output,
        "source": str(result.source),
        "settings": key,
        "size": origin.stamp.size,
        "mtime_ns": origin.stamp.mtime_ns,
        "sha256": origin.sha256,
        "faces": sum(len(page.faces) for page in pages),
        "restored": sum(len(page.restored) for page in pages),
        "seconds": round(result.seconds, 3),
        "error": result.error,
    }
