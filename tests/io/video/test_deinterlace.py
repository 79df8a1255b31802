"""Interlaced films become whole frames: as at their own times, from any start on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.io.video import FilmReader
from tests.io.video.made import make

SIZE = (96, 64)
UNMARKED = {"crf": "4", "g": "1"}
MARKED = {**UNMARKED, "flags": "+ildct+ilme"}  # odd lines first


def moment(time: float) -> np.ndarray:
    """[H, W, 3]: a bright bar that moves by 3 pixels a field."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    left = round(4 + 6 * time)
    pixels[16:48, left : left + 20] = 220
    return pixels


def woven(late: int, count: int = 10) -> list[np.ndarray]:
    """Frames whose even (0) or odd (1) lines are half a frame late."""
    frames = [moment(number) for number in range(count)]
    for number, frame in enumerate(frames):
        frame[late::2] = moment(number + 0.5)[late::2]
    return frames


def lightness(path: Path, deinterlace: bool, start: int | None = None) -> tuple[list[int], list[np.ndarray]]:
    """Times and first planes of a film's frames."""
    frames = list(FilmReader(path, deinterlace).frames(start))
    return [frame.pts for frame in frames], [frame.planes[0] for frame in frames]


def error(planes: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(planes, truth, strict=True))


@pytest.mark.parametrize(("late", "options"), [(0, MARKED), (1, UNMARKED)], ids=["marked", "unmarked"])
def test_frames_are_whole_and_keep_their_times(late: int, options: dict[str, str], tmp_path: Path) -> None:
    whole, interlaced = tmp_path / "whole.mp4", tmp_path / "interlaced.mp4"
    make(whole, size=SIZE, pictures=[moment(number) for number in range(10)], steps=(512,) * 10, options=UNMARKED)
    make(interlaced, size=SIZE, pictures=woven(late), steps=(512,) * 10, options=options)
    (times, planes), (_, truth), (_, combed) = (
        lightness(path, deinterlace) for path, deinterlace in ((interlaced, True), (whole, False), (interlaced, False))
    )
    assert times == lightness(interlaced, False)[0]
    assert error(planes, truth) < 0.4 * error(combed, truth)  # the first frame's the largest, others' 0.15
    durations = [frame.duration for frame in FilmReader(interlaced, True).frames()]
    assert durations == [frame.duration for frame in FilmReader(interlaced).frames()]


def test_frames_are_the_same_from_any_start(tmp_path: Path) -> None:
    """As when a film is resumed; every frame is a key frame, so that none before it has to be decoded."""
    path = tmp_path / "interlaced.mp4"
    make(path, size=SIZE, pictures=woven(0), steps=(512,) * 10, options=MARKED)
    times, planes = lightness(path, True)
    for first, start in enumerate(times):
        late, tail = lightness(path, True, start)
        assert late == times[first:]
        np.testing.assert_array_equal(tail, planes[first:])


def test_only_who_is_not_deinterlaced_is_told_of_combing(tmp_path: Path) -> None:
    path = tmp_path / "interlaced.mp4"
    make(path, size=SIZE, pictures=woven(0, 2), steps=(512,) * 2, options=MARKED)
    assert "turn on deinterlace" in "".join(FilmReader(path).info.notes)
    assert not FilmReader(path, True).info.notes
