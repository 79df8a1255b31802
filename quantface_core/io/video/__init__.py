"""Films as files: read frame by frame, written in parts that can be joined, through PyAV (the extra `video`)."""

from .encode import ENCODERS, Encoder, SegmentWriter, choose_encoder, stored_size
from .info import VIDEO_SUFFIXES, WRITABLE_VIDEO_SUFFIXES, FilmInfo, Frame
from .join import Part, Span, check_container, join
from .planes import Coding, enlarged_planes, with_change
from .read import FilmReader, require_av

__all__ = [
    "ENCODERS",
    "VIDEO_SUFFIXES",
    "WRITABLE_VIDEO_SUFFIXES",
    "Coding",
    "Encoder",
    "FilmInfo",
    "FilmReader",
    "Frame",
    "Part",
    "SegmentWriter",
    "Span",
    "check_container",
    "choose_encoder",
    "enlarged_planes",
    "join",
    "require_av",
    "stored_size",
    "with_change",
]
