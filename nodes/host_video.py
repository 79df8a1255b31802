"""The host's videos: the files they are, and files of ours as videos of the host."""

from __future__ import annotations

import io as streams
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl

from ..quantface_core.io.atomic import move_into_place

_TICKS = 1_000_000  # times are rounded to these parts of a second


@dataclass(frozen=True)
class VideoFile:
    """A video as a file, of which a part may be meant."""

    path: Path
    start: Fraction | None  # seconds; None = the beginning
    end: Fraction | None  # seconds; None = the end


@contextmanager
def working_folder() -> Iterator[Path]:
    """Context manager: a new folder in the host's folder for temporary files, removed on exit."""
    import folder_paths

    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quantface-", dir=temporary, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def file_of(video: Any, folder: Path) -> VideoFile:
    """The file behind a value of the host's VIDEO sockets; one that is in memory is written into `folder`."""
    source = video.get_stream_source()
    if isinstance(source, streams.BytesIO):
        path = folder / "source.mp4"
        path.write_bytes(source.getbuffer())
    else:
        path = Path(source)
    # Older hosts cut no videos.
    start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    end = _seconds(start + duration) if duration else None
    return VideoFile(path, _seconds(start) if start else None, end)


def keep(path: Path) -> tuple[Any, dict[str, object]]:
    """Move a finished file among the host's temporary ones: (it as the host's video, how the page plays it)."""
    import folder_paths

    kept = Path(folder_paths.get_temp_directory()) / f"quantface_{uuid.uuid4().hex}{path.suffix}"
    move_into_place(path, kept)
    shown = {"filename": kept.name, "subfolder": "", "type": "temp"}
    return InputImpl.VideoFromFile(str(kept)), {"images": [shown], "animated": (True,)}


def _seconds(time: float) -> Fraction:
    return Fraction(round(time * _TICKS), _TICKS)
