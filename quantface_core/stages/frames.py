"""A film's frames on their way: with detected faces, with faces being restored, and restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..faces.align import Matrix
from ..faces.appearance import Appearance
from ..faces.temporal import Link
from ..faces.toning import Toning
from ..faces.track import Tracked
from ..types import Crop, Face, Pixels, Plane
from .steady import RGBFrame, Steadied


@dataclass(frozen=True)
class DetectedFrame:
    """A frame and the faces detected in it."""

    frame: RGBFrame | None  # None = only its faces are needed, to track those of later frames
    faces: Sequence[Face]  # in pixels of the frame resized to square pixels
    appearances: Sequence[Appearance]  # of the faces, one each
    cut: bool = False  # whether a new shot begins with this frame


class FrameFace(NamedTuple):
    """A restored face of a frame."""

    track: int  # number of its track
    face: Face
    applied_strength: float  # mean share of its change that was applied, 0 to 1


@dataclass(frozen=True)
class RestoredFrame:
    """A frame whose faces have been restored."""

    index: int  # counted from the film's first
    frame: RGBFrame
    before: Pixels  # [H, W, 3], the frame, enlarged if requested
    pixels: Pixels  # [H, W, 3], the same with restored faces
    mask: Plane  # [H, W], where it may have changed; 0 = exactly as before
    faces: tuple[FrameFace, ...]


@dataclass
class RestoredCrop:
    """One face of one frame, restored."""

    face: Face
    place: Matrix  # from the crop to the output frame
    fade: float  # how much of the restoration is applied, 0 to 1, see `Fades`
    before: Crop  # [S, S, 3], of the frame onto which it is pasted
    clean: Crop  # [S, S, 3], without noise; the same array if there was none
    after: Crop  # [S, S, 3], colour-matched
    share: Plane  # [S, S], of the change to apply
    toning: Toning | None  # how it is toned, if it is black and white or, say, sepia; None = in colour
    links: dict[int, Link]  # to the same face in neighbouring frames, by distance in frames


@dataclass
class PendingFrame:
    """A frame whose faces are being restored."""

    index: int
    frame: RGBFrame | None
    tracked: Sequence[Tracked] = ()
    fades: dict[int, float] = field(default_factory=dict)  # by track
    transforms: dict[int, Matrix] = field(default_factory=dict)  # from the frame to crops, by track
    steadied: Steadied = field(default_factory=Steadied)
    restored: dict[int, RestoredCrop] = field(default_factory=dict)  # by track
