"""Interlaced films become whole frames: as at their own times, from any start on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

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


def spliced(path: Path, *parts: dict[str, str]) -> None:
    """Write a film of parts, each of 3 frames and with options of its own."""
    with av.open(str(path), "w") as film:
        for number, options in enumerate(parts):
            part = path.with_name(f"{number}.mkv")
            make(part, "mpeg2video", size=SIZE, pictures=woven(0, 3), steps=(512,) * 3, options=options)
            with av.open(str(part)) as source:
                stream = film.streams[0] if number else film.add_stream_from_template(source.streams[0], opaque=True)
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + 120 * number, packet.dts + 120 * number
                        packet.stream = stream
                        film.mux(packet)


@pytest.mark.parametrize(
    ("parts", "unchanged"),
    [((MARKED, UNMARKED, MARKED), {3, 4, 5}), ((UNMARKED, MARKED, UNMARKED), set())],
    ids=["marked", "unmarked"],
)
def test_frames_of_a_marked_film_that_are_not_marked_stay(
    parts: tuple[dict[str, str], ...], unchanged: set[int], tmp_path: Path
) -> None:
    """What a film is, its first frame says; from any start, as when a film is resumed."""
    path = tmp_path / "spliced.mkv"
    spliced(path, *parts)
    (times, planes), (_, combed) = (lightness(path, deinterlace) for deinterlace in (True, False))
    assert {n for n, (a, b) in enumerate(zip(planes, combed, strict=True)) if np.array_equal(a, b)} == unchanged
    for first, start in enumerate(times):
        late, tail = lightness(path, True, start)
        assert late == times[first:]
        np.testing.assert_array_equal(tail, planes[first:])


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "yuv440p10le", "bgr0"])
def test_a_film_keeps_its_format(pix_fmt: str, tmp_path: Path) -> None:
    """Those that the filter lacks too; lines of one field keep their values."""
    path = tmp_path / "film.mkv"
    make(path, "ffv1", pix_fmt, size=SIZE, pictures=woven(1, 4), steps=(512,) * 4)
    whole, combed = (list(FilmReader(path, deinterlace).frames()) for deinterlace in (True, False))
    for a, b in zip(whole, combed, strict=True):
        assert [(plane.shape, plane.dtype) for plane in a.planes] == [(plane.shape, plane.dtype) for plane in b.planes]
        np.testing.assert_array_equal(a.planes[0][::2], b.planes[0][::2])


def test_only_who_is_not_deinterlaced_is_told_of_combing(tmp_path: Path) -> None:
    path = tmp_path / "interlaced.mp4"
    make(path, size=SIZE, pictures=woven(0, 2), steps=(512,) * 2, options=MARKED)
    assert "turn on deinterlace" in "".join(FilmReader(path).info.notes)
    assert not FilmReader(path, True).info.notes
