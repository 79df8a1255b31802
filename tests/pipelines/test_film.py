"""Films from file to file: stopped and resumed, ranges, sound, folders of pictures, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("av")

from quantface_core.errors import ImageError, UsageError, WriteError
from quantface_core.faces.boxes import face_in_box
from quantface_core.io.video import FilmReader, SegmentWriter
from quantface_core.io.video.numbered import NumberedFrames
from quantface_core.pipelines import film
from quantface_core.pipelines.callbacks import PipelineCallbacks, Progress
from quantface_core.pipelines.film import restore_film
from quantface_core.pipelines.film_request import FilmRequest
from quantface_core.pipelines.film_sink import VideoSink
from quantface_core.pipelines.film_state import FilmState, FrameDetections
from quantface_core.types import Face, Pixels, RestoreOptions
from tests.io.video.made import SUBTITLES, chapters_of, make, packet_times, subtitles_of, with_subtitles
from tests.stages.flicker import Flicker

COUNT = 30


def pictures(count: int = COUNT) -> list[np.ndarray]:
    """Blobs that cross a gray wall, under noise; after a cut, one on a lighter wall."""
    draws = np.random.default_rng(0)
    made = []
    for number in range(count):
        late = number >= count * 2 // 3
        picture = np.full((96, 128, 3), 150 if late else 70, np.uint8)
        picture[::8] += 20 if late else 0
        picture[:, ::8] += 0 if late else 20
        cv2.ellipse(picture, (30 + 3 * (number % 20), 48), (14, 20), 0, 0, 360, (230, 120, 100), -1)
        made.append(np.clip(picture + draws.normal(0, 2, picture.shape), 0, 255).astype(np.uint8))
    return made


class Blobs:
    """Finds reddish blobs, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pixels: Pixels) -> Sequence[Face]:
        self.asked += 1
        red = (pixels[..., 0].astype(int) - pixels[..., 1] > 60).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(red)
        boxes = [stats[i] for i in range(1, count) if stats[i][4] > 200]
        return [replace(face_in_box(tuple(float(v) for v in box[:4])), score=0.9) for box in boxes]


def request(source: Path, output: Path, **more: Any) -> FilmRequest:
    options = {"options": RestoreOptions(strength=1.0, color="none"), "detector": Blobs(), "smoothing": 1.0, **more}
    return FilmRequest(source, output, Flicker(), **{"settings": {"model": "flicker"}, **options})  # type: ignore[arg-type]


def stop_after(frames: int) -> PipelineCallbacks:
    def progress(told: Progress) -> None:
        if told.done >= frames:
            raise KeyboardInterrupt

    return PipelineCallbacks(progress)


def decoded(path: Path) -> list[np.ndarray]:
    """RGB of 255."""
    return [frame.rgb() / 257 for frame in FilmReader(path).frames()]


def same(a: Path, b: Path) -> bool:
    first, second = list(FilmReader(a).frames()), list(FilmReader(b).frames())
    return len(first) == len(second) and all(
        x.pts == y.pts and all(map(np.array_equal, x.planes, y.planes)) for x, y in zip(first, second, strict=True)
    )


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
    monkeypatch.setattr(film, "PART", 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    steps = [512 + 64 * (i % 3) for i in range(COUNT)]
    make(path, size=(128, 96), pictures=pictures(), steps=steps, sound=True, options={"crf": "12"})
    return path


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Restored in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "PART", 8)
        path = tmp_path_factory.mktemp("whole") / "film.mp4"
        restore_film(request(source, path))
        yield path


def test_a_film_comes_back_with_sound_and_times(source: Path, tmp_path: Path) -> None:
    shown: list[Progress] = []
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
    assert result.to_dict()["tracks"][0]["done"] == "restored"
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    changed = np.abs(after[10] - before[10]).max(2)
    assert changed[40:56, 52:68].mean() > 5  # the face
    assert changed[:, :20].mean() < 2  # the wall, coded again
    assert not (tmp_path / "out.mp4.part").exists()


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


def test_another_setting_is_not_mixed_into_a_film(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output), stop_after(10))
    kept = output.read_bytes()
    with pytest.raises(UsageError, match="--resume goes on with it"):
        restore_film(request(source, output))
    with pytest.raises(UsageError, match="another output, smoothing"):
        restore_film(request(source, output, resume=True, smoothing=2.0, crf=30))
    with pytest.raises(UsageError, match="another low_memory"):
        restore_film(request(source, output, resume=True, settings={"model": "flicker", "low_memory": True}))
    low = request(source, output, resume=True)
    low.restorer.dtype = torch.bfloat16  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="another precision"):
        restore_film(low)
    assert output.read_bytes() == kept


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [("settings.json", "[1]", "is not the state of a film"), ("found.jsonl", "[1, 0]\n", "is damaged: delete it")],
)
def test_a_damaged_state_is_told(source: Path, tmp_path: Path, file: str, content: str, words: str) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, output), stop_after(10))
    (tmp_path / "out.mp4.part" / file).write_text(content)
    with pytest.raises(UsageError, match=words):
        restore_film(request(source, output, resume=True))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk to write to")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    state = FilmState(tmp_path / "state", {}, resume=False)
    state.close()
    state._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(WriteError, match="No space left"):
        state.add(FrameDetections(0, False, (), ()))
    with suppress(OSError):
        state._file.close()


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    FilmState(tmp_path / "state", {}, resume=False).close()
    (tmp_path / "state" / "found.jsonl").unlink()
    (tmp_path / "state" / "found.jsonl").mkdir()
    with pytest.raises(WriteError, match="cannot write"):
        FilmState(tmp_path / "state", {}, resume=True)


def test_two_runs_do_not_share_a_state(source: Path, whole: Path, tmp_path: Path) -> None:
    output, refused = tmp_path / "out.mp4", []

    def meanwhile(told: Progress) -> None:
        if told.done == 10:
            with pytest.raises(UsageError, match="another process works on this film"):
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
    monkeypatch.setattr(film, "PART", 8)
    restore_film(request(source, output, resume=True))
    assert same(output, whole)


def test_what_stops_a_run_is_told_whatever_else_goes_wrong(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise IndexError("broken")

    told: list[str] = []
    monkeypatch.setattr(VideoSink, "keep", broken)
    callbacks = replace(stop_after(10), notify=told.append)
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(source, tmp_path / "out.mp4"), callbacks)
    assert "could not be put together: broken" in told[-1]


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
    with pytest.raises(UsageError, match="is the film itself"):
        restore_film(request(source, source, detector=detector))
    assert detector.asked == 0
    assert not list(tmp_path.iterdir())


def test_enlarged_frames_keep_their_transparency(tmp_path: Path) -> None:
    folder, double = tmp_path / "in", RestoreOptions(strength=1.0, color="none", upscale=2)
    folder.mkdir()
    alpha = np.repeat(np.uint8([[0, 255]]), 63, axis=1).repeat(95, axis=0)
    for number, pixels in enumerate(pictures(3)):
        cv2.imwrite(str(folder / f"f_{number}.png"), np.dstack([pixels[:95, :126, ::-1], alpha]))
    result = restore_film(request(folder, tmp_path / "out", options=double))
    made = cv2.imread(str(tmp_path / "out" / "f_1.png"), cv2.IMREAD_UNCHANGED)
    assert made.shape == (190, 252, 4)
    assert (result.width, result.height, result.warnings) == (252, 190, ())
    assert made[:, :124, 3].max() == 0
    assert made[:, 128:, 3].min() == 255
    result = restore_film(request(folder, tmp_path / "out.mp4", options=double))
    assert decoded(tmp_path / "out.mp4")[0].shape[1::-1] == (result.width, result.height) == (252, 190)
    assert result.warnings == ("transparency is left out",)
    result = restore_film(request(folder, tmp_path / "odd.mp4", codec="h264"))
    assert decoded(tmp_path / "odd.mp4")[0].shape[1::-1] == (result.width, result.height)


def test_frames_made_anew_are_others(tmp_path: Path) -> None:
    for name, value in (("f_1.bmp", 0), ("f_2.bmp", 0)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), value, np.uint8))
    before = NumberedFrames(tmp_path, Fraction(25)).fingerprint()
    assert NumberedFrames(tmp_path, Fraction(25)).fingerprint() == before
    found = (tmp_path / "f_2.bmp").stat()
    cv2.imwrite(str(tmp_path / "f_2.bmp"), np.full((8, 8, 3), 255, np.uint8))
    os.utime(tmp_path / "f_2.bmp", ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))
    assert (tmp_path / "f_2.bmp").stat().st_size == found.st_size
    assert NumberedFrames(tmp_path, Fraction(25)).fingerprint() != before


def test_a_folder_of_numbered_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, pixels in enumerate(pictures(14)):
        cv2.imwrite(str(folder / f"f_{number + 8}.png"), pixels[..., ::-1])
    (folder / "notes.txt").write_text("no frame")
    (folder / "._f_8.png").write_bytes(b"macOS's")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = restore_film(request(folder, whole))
    assert result.frames == 14
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(folder, stopped), stop_after(11))
    restore_film(request(folder, stopped, resume=True))
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(f"f_{n + 8}.png" for n in range(14))
    assert names == sorted(path.name for path in stopped.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    restore_film(request(folder, Path(".")))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == names
    restore_film(request(folder, tmp_path / "out.mp4", rate=Fraction(10)))
    shown = decoded(tmp_path / "out.mp4")
    assert len(shown) == 14
    assert FilmReader(tmp_path / "out.mp4").info.rate == 10
    picture = cv2.imread(str(whole / "f_10.png"))[..., ::-1]
    assert np.abs(shown[2] - picture).mean() < 4
    shutil.move(folder / "f_10.png", stopped / "f_10.png")
    (folder / "f_10.png").symlink_to(stopped / "f_10.png")
    with pytest.raises(UsageError, match=r"f_10\.png would overwrite a source picture"):
        restore_film(request(folder, stopped))
    shutil.copy(folder / "f_10.png", folder / "f_10.ppm")
    with pytest.raises(UsageError, match="results of 2 pictures would be called f_10"):
        restore_film(request(folder, tmp_path / "none"))
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UsageError, match="end in a number"):
        restore_film(request(folder, tmp_path / "none.mp4"))
