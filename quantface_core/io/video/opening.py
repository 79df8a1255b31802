"""PyAV, and films opened with it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ...errors import QuantFaceError
from ...requirements import install_command

_WANTED = '"av>=17.1"'


def require_av() -> Any:
    """Import PyAV and return it. Raises QuantFaceError saying how to install it, or that it is too old."""
    try:
        import av
    except ImportError:
        raise QuantFaceError(f"films need PyAV: {install_command(_WANTED)}") from None
    if _version(av) < (17, 1):  # colours of frames and copied streams as they are read and written here
        raise QuantFaceError(f"films need PyAV 17.1 or later, not {av.__version__}: {install_command(_WANTED)}")
    av.logging.set_level(None)  # silences its decoders; what matters is counted and reported
    return av


def local(path: Path) -> str:
    """A file's path for FFmpeg, which takes what precedes a colon in `20:15 talk.mp4` for a protocol."""
    return os.path.abspath(path)


def open_film(av: Any, path: Path) -> Any:
    """Open a film with PyAV: an input container. Its texts need not be UTF-8. Raises PyAV's errors and OSError."""
    # PyAV 19, which is for Python 3.12 and later, no longer takes the argument: it hands such texts on as they are.
    return av.open(local(path), **({"metadata_errors": "replace"} if _version(av) < (19, 0) else {}))


def pictures_of(container: Any) -> list[Any]:
    """The video streams of an input container, cover art left out."""
    from av.stream import Disposition

    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def has_times(container: Any) -> bool:
    """Whether an input container has times to seek by, none of which occurs twice."""
    from av.format import Flags

    return not container.format.flags & Flags.ts_discont.value


def _version(av: Any) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", av.__version__)[:2]))  # "20.0rc1": 20, 0
