"""What became of a film: its shots, and every face's way through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..io.video import FilmInfo
from ..stages.restore import describe_change
from .film_sink import Sink
from .film_state import FilmState


@dataclass(frozen=True)
class TrackReport:
    """One face's way through a shot. `--faces NUMBER` restores it alone."""

    number: int
    shot: int  # from 0
    first: float  # seconds of the film
    last: float
    frames: int  # in which it was restored
    begins: tuple[float, ...]  # its box in the first of them: left, top, width, height in square pixels
    ends: tuple[float, ...]  # and in the last
    taken: float  # of its change, 0 to 1: the mean
    done: str  # the same in words


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
        return {**asdict(self), "output": str(self.output)}


def report_of(output: Path, info: FilmInfo, sink: Sink, state: FilmState, warnings: Sequence[str]) -> FilmResult:
    """Put together from what the parts tell."""
    cuts = [found.pts for found in state.found() if found.cut]
    ways: dict[int, list[tuple[int, float, tuple[float, ...]]]] = {}
    times: list[int] = []
    for part in range(state.parts_done()):
        for frame in state.told(part)["frames"]:
            times.append(frame["pts"])
            for track, taken, *box in frame["faces"]:
                ways.setdefault(track, []).append((frame["pts"], taken, tuple(box)))
    begin = times[0]
    seconds = float((times[-1] - begin) * info.time_base + 1 / info.rate)
    tracks = []
    for number, way in sorted(ways.items()):
        taken = sum(row[1] for row in way) / len(way)
        tracks.append(
            TrackReport(
                number,
                sum(cut <= way[0][0] for cut in cuts),
                round(float(way[0][0] * info.time_base - info.start), 3),
                round(float(way[-1][0] * info.time_base - info.start), 3),
                len(way),
                way[0][2],
                way[-1][2],
                round(taken, 3),
                describe_change(taken),
            )
        )
    notes = (*info.notes, *sink.notes, *warnings)
    return FilmResult(
        output, len(times), round(seconds, 3), info.width, info.height, sink.codec, len(cuts) + 1, tuple(tracks), notes
    )
