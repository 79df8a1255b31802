"""Films from file to file: stopped and resumed, ranges, sound, folders of pictures, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from quantface_core.errors import ImageError, UsageError, WriteError
from quantface_core.io.video import SegmentWriter
from quantface_core.pipelines import film, film_sink
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.pipelines.film import restore_film
from quantface_core.pipelines.film_sink import VideoSink
from tests.io.video.made import (
    SUBTITLES,
    chapters_of,
    make,
    packet_times,
    remux,
    seconds_of,
    subtitles_of,
    with_subtitles,
)
from tests.pipelines.films import COUNT, EXECUTION, Blobs, decoded, pictures, request, same, small, stop_after
from tests.stages.flicker import Flicker


def calls(patch: pytest.MonkeyPatch, of: type, name: str) -> list[Any]:
    """The objects whose method is called from now on, in order."""
    called, method = [], getattr(of, name)

    def listed(self: Any, *rest: Any) -> Any:
        called.append(self)
        return method(self, *rest)

    patch.setattr(of, name, listed)
    return called


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    steps = [512 + 64 * (i % 3) for i in range(COUNT)]
    make(path, size=(128, 96), pictures=pictures(), steps=steps, sound=True, options={"crf": "12"})
    return path


def test_a_restorer_in_memory_makes_the_same_film_and_is_not_resumed(source: Path, whole: Path, tmp_path: Path) -> None:
    given = request(source, tmp_path / "film.mp4", execution=Flicker())
    restore_film(given)
    assert same(tmp_path / "film.mp4", whole)
    with pytest.raises(UsageError, match="resume is for a model's file"):
        restore_film(replace(given, resume=True))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Restored in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        path = tmp_path_factory.mktemp("whole") / "film.mp4"
        restore_film(request(source, path))
        yield path


def test_a_film_comes_back_with_sound_and_times(source: Path, tmp_path: Path) -> None:
    shown: list[StageProgress] = []
    result = restore_film(request(source, tmp_path / "out.mp4"), PipelineCallbacks(shown.append))
    for kind in ("video", "audio"):
        times = [[t for t, _ in packet_times(path, kind)] for path in (source, tmp_path / "out.mp4")]
        assert times[0] == times[1]
    assert packet_times(source, "audio") == packet_times(tmp_path / "out.mp4", "audio")
    assert [told.done for told in shown] == list(range(1, COUNT + 1))
    assert shown[-1].total == COUNT
    assert (result.frames, result.shots, result.codec) == (COUNT, 2, "h264")
    assert [(track.number, track.shot, track.frames) for track in result.tracks] == [(0, 0, 20), (1, 1, 10)]
    assert result.tracks[0].begins[0] < result.tracks[0].ends[0] - 40
    track = result.to_dict()["tracks"][0]
    assert (track["taken"], track["done"]) == (result.tracks[0].applied_strength, "restored")
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    changed = np.abs(after[10] - before[10]).max(2)
    face, wall = changed[40:56, 52:68].mean(), changed[:, :20].mean()
    assert face > max(2.5, 2 * wall)
    assert wall < 2  # it is only coded again
    assert not (tmp_path / "out.mp4.part").exists()


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", "mpeg4", size=(128, 96), pictures=pictures(10), steps=(512,) * 10)
    remux(tmp_path / "a.mp4", tmp_path / "film.mp4", last=50 * 512)
    restore_film(request(tmp_path / "film.mp4", tmp_path / "out.mp4"))
    assert seconds_of(tmp_path / "out.mp4") == seconds_of(tmp_path / "film.mp4") == pytest.approx(9 / 25 + 2)


@pytest.mark.parametrize("stops", [(3,), (13, 21), (29,)])
def test_stopped_and_resumed_it_is_the_same_film(
    source: Path, whole: Path, tmp_path: Path, stops: Sequence[int]
) -> None:
    output, resume, detector = tmp_path / "out.mp4", False, Blobs()
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            restore_film(request(source, output, resume=resume, detector=detector), stop_after(stop))
        assert len(decoded(output)) == stop  # it plays, as far as it goes
        sound = packet_times(output, "audio")
        assert sound[-1][0] < packet_times(output, "video")[-1][0] + 0.1
        resume = True
    restore_film(request(source, output, resume=True, detector=detector))
    assert same(output, whole)
    assert detector.asked == COUNT  # nothing is looked for twice


def test_a_killed_run_goes_on_from_what_it_had_written(source: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output), stop_after(20))
    output.unlink()
    state = tmp_path / "out.mp4.part"
    # As kill -9 leaves it: a torn line, a torn part, a temporary file.
    found = state / "found.jsonl"
    found.write_bytes(found.read_bytes()[:-25])
    (state / "partial.mkv").write_bytes(b"torn")
    (state / ".quantface-x.json").write_text("{")
    restore_film(request(source, output, resume=True))
    assert same(output, whole)


def test_a_model_by_another_name_is_the_same(source: Path, whole: Path, tmp_path: Path) -> None:
    output, copy = tmp_path / "out.mp4", tmp_path / "renamed"
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output), stop_after(10))
    shutil.copy(EXECUTION.model, copy)
    restore_film(request(source, output, resume=True, execution=replace(EXECUTION, model=copy)))
    assert same(output, whole)


def test_another_setting_is_not_mixed_into_a_film(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output), stop_after(10))
    kept = output.read_bytes()
    with pytest.raises(UsageError, match="continue it with resume"):
        restore_film(request(source, output))
    with pytest.raises(UsageError, match="another output, smoothing"):
        restore_film(request(source, output, resume=True, smoothing=2.0, crf=30))
    with pytest.raises(UsageError, match="another deinterlace"):
        restore_film(request(source, output, resume=True, deinterlace=True))
    with pytest.raises(UsageError, match="another low_memory"):
        restore_film(request(source, output, resume=True, execution=replace(EXECUTION, low_memory=True)))
    (tmp_path / "model").write_text("another")
    with pytest.raises(UsageError, match="another model"):
        restore_film(request(source, output, resume=True, execution=replace(EXECUTION, model=tmp_path / "model")))
    half = Flicker()
    half.dtype = torch.bfloat16  # type: ignore[attr-defined]
    monkeypatch.setattr(film, "load_for", lambda _: half)
    with pytest.raises(UsageError, match="another precision"):
        restore_film(request(source, output, resume=True))
    assert output.read_bytes() == kept


def test_two_runs_do_not_share_a_state(source: Path, whole: Path, tmp_path: Path) -> None:
    output, refused = tmp_path / "out.mp4", []

    def meanwhile(told: StageProgress) -> None:
        if told.done == 10:
            with pytest.raises(UsageError, match="another process is working on this film"):
                restore_film(request(source, output, resume=True))
            refused.append(told.done)

    restore_film(request(source, output), PipelineCallbacks(meanwhile))
    assert refused
    assert same(output, whole)


@pytest.mark.parametrize("early", [True, False])
def test_stopped_while_a_frame_is_written(
    source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    output, add, seen = tmp_path / "out.mp4", VideoSink.add, []

    def stopped(sink: VideoSink, restored: Any) -> None:
        seen.append(restored)
        if early:
            raise KeyboardInterrupt
        add(sink, restored)
        if len(seen) == 11:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoSink, "add", stopped)
    opened, closed = (calls(monkeypatch, SegmentWriter, name) for name in ("__init__", "close"))
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output))
    assert closed == opened
    assert output.exists() != early
    assert early or len(decoded(output)) == 11
    monkeypatch.undo()
    small(monkeypatch)
    restore_film(request(source, output, resume=True))
    assert same(output, whole)


def test_what_stops_a_run_is_told_whatever_else_goes_wrong(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise IndexError("broken")

    told: list[str] = []
    monkeypatch.setattr(VideoSink, "write_partial", broken)
    callbacks = replace(stop_after(10), notify=told.append)
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, tmp_path / "out.mp4"), callbacks)
    assert "could not be joined: broken" in told[-1]


def test_a_film_that_cannot_be_joined_is_kept_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    output, told = tmp_path / "out.mp4", list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(film_sink, "join", full)
        patch.setattr(VideoSink, "try_out", lambda *_: None)
        with pytest.raises(WriteError, match=r"out\.mp4: cannot write \(No space left on device\)"):
            restore_film(request(source, output), PipelineCallbacks(notify=told.append))
    assert "holds all frames; continue with resume" in told[-1]
    assert restore_film(request(source, output, resume=True)).frames == COUNT


def test_what_a_killed_run_left_beside_the_result_is_removed(source: Path, tmp_path: Path) -> None:
    left = tmp_path / ".quantface-0123456789abcdef.mp4"
    left.touch()
    os.utime(left, (0, 0))
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, tmp_path / "out.mp4"), stop_after(1))
    assert not left.exists()


def test_a_range(source: Path, tmp_path: Path) -> None:
    result = restore_film(request(source, tmp_path / "out.mkv", start=Fraction(2, 5), end=Fraction(1)))
    inside = [t for t, _ in packet_times(source, "video") if 0.4 <= t < 1]
    got = [t for t, _ in packet_times(tmp_path / "out.mkv", "video")]
    np.testing.assert_allclose(got, np.array(inside) - inside[0], atol=2e-3)
    assert result.frames == len(inside)
    with pytest.raises(UsageError, match="is not after"):
        restore_film(request(source, tmp_path / "b.mkv", start=Fraction(2), end=Fraction(1)))
    for beyond in ({"start": Fraction(10**16)}, {"end": Fraction(10**400)}):
        with pytest.raises(UsageError, match="at most 10000000 seconds"):
            restore_film(request(source, tmp_path / "b.mkv", **beyond))
    with pytest.raises(ImageError, match="no frame between"):
        restore_film(request(source, tmp_path / "c.mkv", start=Fraction(70), end=Fraction(80)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv"]


def test_a_range_takes_the_subtitles_along_that_reach_into_it(source: Path, tmp_path: Path) -> None:
    with_subtitles(source, tmp_path / "film.mkv")
    restore_film(request(tmp_path / "film.mkv", tmp_path / "out.mkv", start=Fraction(4, 5), end=Fraction(1)))
    (begins, _, words, _), *others = subtitles_of(tmp_path / "out.mkv")
    assert not others
    assert words == SUBTITLES[1][2]
    first = next(t for t, _ in packet_times(source, "video") if t >= 0.8)
    assert float(begins) == pytest.approx(float(SUBTITLES[1][0]) - first, abs=2e-3)
    assert chapters_of(tmp_path / "out.mkv") == []  # they are of other times


def test_what_a_container_refuses_shows_before_the_work(source: Path, tmp_path: Path) -> None:
    detector = Blobs()
    with pytest.raises(Exception, match="cannot hold"):
        restore_film(request(source, tmp_path / "out.avi", detector=detector))
    with pytest.raises(UsageError, match=r"cannot write \.wmv"):
        restore_film(request(source, tmp_path / "out.wmv", detector=detector))
    with pytest.raises(UsageError, match="rate is for numbered images"):
        restore_film(request(source, tmp_path / "out.mp4", rate=Fraction(25), detector=detector))
    with pytest.raises(UsageError, match="is the film itself"):
        restore_film(request(source, source, detector=detector))
    assert detector.asked == 0
    assert not list(tmp_path.iterdir())
