"""Which containers films are written to, and which of a film's sound and subtitles each of them holds."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from ...errors import UsageError
from .info import FilmInfo
from .opening import require_av

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
"""FFmpeg's name of each container that films are written to, by suffix."""

QUICKTIME = (".mp4", ".m4v", ".mov")
"""Suffixes of containers of QuickTime's kind."""

_PREFERRED = (".mp4", ".mkv", ".mov", ".avi")


@cache
def held_codecs(suffix: str) -> frozenset[str]:
    """The codecs that a container can hold, as ffmpeg calls them."""
    av = require_av()
    with av.open(os.devnull, "w", format=CONTAINERS[suffix]) as container:
        return frozenset(_codec_of(av, coder) for coder in container.supported_codecs)


def _codec_of(av: Any, coder: str) -> str:
    """The codec of one of ffmpeg's coders, whose name may be another: `dca` decodes `dts`."""
    for mode in ("r", "w"):
        try:
            return str(av.codec.Codec(coder, mode).canonical_name)
        except av.codec.codec.UnknownCodecError:
            continue
    return coder


def check_container(suffix: str, info: FilmInfo) -> list[str]:
    """Return notes on subtitles that a container cannot hold. Raises UsageError for sound that it cannot hold."""
    notes, known = [], held_codecs(suffix)
    for codec in dict.fromkeys(info.others):
        if codec in known:
            continue
        able = " or ".join(other for other in _PREFERRED if codec in held_codecs(other))
        if _is_sound(codec):
            remedy = f"name an output ending in {able}" if able else "convert its sound first, to AAC for example"
            raise UsageError(f"{suffix} cannot hold the film's sound ({codec}): {remedy}")
        note = f"{suffix} cannot hold its subtitles ({codec}), and they are left out"
        notes.append(f"{note}: {able} can" if able else note)
    return notes


def choose_container(suffix: str, info: FilmInfo) -> str:
    """The suffix of a film's result: the film's own if it can be written, else the first that holds its sound."""
    if suffix in CONTAINERS:
        return suffix
    sound = {codec for codec in info.others if _is_sound(codec)}
    return next((able for able in _PREFERRED if sound <= held_codecs(able)), _PREFERRED[0])


def _is_sound(codec: str) -> bool:
    return bool(require_av().codec.Codec(codec, "r").type == "audio")
