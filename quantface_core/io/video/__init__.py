"""Films as files: read frame by frame, written in parts that can be joined, through PyAV (the extra `video`)."""

from .containers import CONTAINERS, check_container, choose_container
from .copied import Span
from .encode import ENCODERS, Encoder, SegmentWriter, choose_encoder, stored_size
from .info import VIDEO_SUFFIXES, FilmInfo, Frame
from .join import Part, join
from .opening import require_av
from .planes import Coding, enlarged_planes, with_change
from .read import FilmReader

__all__ = [
    "CONTAINERS",
    "ENCODERS",
    "VIDEO_SUFFIXES",
    "Coding",
    "Encoder",
    "FilmInfo",
    "FilmReader",
    "Frame",
    "Part",
    "SegmentWriter",
    "Span",
    "check_container",
    "choose_container",
    "choose_encoder",
    "enlarged_planes",
    "join",
    "require_av",
    "stored_size",
    "with_change",
]
