"""The report on a restored film: its shots, and every face's track through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..io.video import FilmInfo
from ..stages.frames import RestoredFrame
from ..stages.outcome import describe_change
from .film_sink import Sink
from .film_state import FilmState

_KEYS = {"applied_strength": "taken", "outcome": "done"}  # in the report, where they differ


@dataclass(frozen=True)
class TrackReport:
    """One face's track through a shot. `--faces NUMBER` restores this face alone."""

    number: int
    shot: int  # from 0
    first: float  # seconds of the film
    last: float
    frames: int  # in which it was restored
    begins: tuple[float, ...]  # its box in the first of them: left, top, width, height in square pixels
    ends: tuple[float, ...]  # and in the last
    applied_strength: float  # mean share of its change that was applied, 0 to 1
    outcome: str  # the same in words

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {_KEYS.get(name, name): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class FilmResult:
    """A finished film."""

    output: Path
    frames: int
    seconds: float  # of the film
    width: int
    height: int
    codec: str
    shots: int
    tracks: tuple[TrackReport, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "output": str(self.output), "tracks": [track.to_dict() for track in self.tracks]}


def record_of(restored: RestoredFrame) -> dict[str, Any]:
    """What is stored of a frame until the film is finished."""
    faces = [[f.track, round(f.applied_strength, 4), *(round(v, 1) for v in f.face.box)] for f in restored.faces]
    frame: Any = restored.frame
    return {"pts": frame.pts, "duration": frame.duration, "faces": faces}


def build_result(output: Path, info: FilmInfo, sink: Sink, state: FilmState, warnings: Sequence[str]) -> FilmResult:
    """Build a finished film's result from its parts' records: the faces of each frame, and how they were restored."""
    cuts = [found.pts for found in state.detections() if found.cut]
    observations: dict[int, list[tuple[int, float, tuple[float, ...]]]] = {}  # by track: pts, strength, box
    times: list[int] = []
    for segment in range(state.parts_done()):
        for frame in state.read_part(segment)["frames"]:
            times.append(frame["pts"])
            for track, strength, *box in frame["faces"]:
                observations.setdefault(track, []).append((frame["pts"], strength, tuple(box)))
    tracks = []
    for number, seen in sorted(observations.items()):
        (first, _, begins), (last, _, ends) = seen[0], seen[-1]
        strength = sum(one for _, one, _ in seen) / len(seen)
        tracks.append(
            TrackReport(
                number=number,
                shot=sum(cut <= first for cut in cuts),
                first=round(float(first * info.time_base - info.start), 3),
                last=round(float(last * info.time_base - info.start), 3),
                frames=len(seen),
                begins=begins,
                ends=ends,
                applied_strength=round(strength, 3),
                outcome=describe_change(strength),
            )
        )
    seconds = float((times[-1] - times[0]) * info.time_base + 1 / info.rate)
    return FilmResult(
        output=output,
        frames=len(times),
        seconds=round(seconds, 3),
        width=sink.size[0],
        height=sink.size[1],
        codec=sink.codec,
        shots=len(cuts) + 1,
        tracks=tuple(tracks),
        warnings=(*info.notes, *sink.notes, *warnings),
    )
