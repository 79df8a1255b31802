"""Restore Video: from a video of the host's to another, frame by frame."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.io.video import FilmReader
from tests.io.video.made import make
from tests.nodes.conftest import Cancelled, Video

CLIP = Path(__file__).parents[2] / "quantface_core" / "assets" / "astronaut.mp4"
SETTINGS = {
    "faces": "all", "positions": "0", "blend": "strength", "strength": 1.0, "smoothing": 0.0, "color": "wavelet",
    "upscale": "1", "min_confidence": 0.7, "min_size": 0, "feather": 0.32,
}  # fmt: skip
START, DURATION = 0.2, 0.25  # seconds, so that a test restores few frames


@pytest.fixture
def restore(nodes: dict[str, Any], load: Any) -> Any:
    """A function from a video and changed settings to the node's result."""

    def restored(video: Video, **changes: Any) -> Any:
        return nodes["QuantFace_RestoreVideo"].execute(fr_model=load(), video=video, **{**SETTINGS, **changes})

    return restored


def clip() -> Video:
    return Video(str(CLIP), START, DURATION)


def frames_of(path: str) -> list[np.ndarray]:
    return [frame.rgb().astype(np.float32) / 65535 for frame in FilmReader(Path(path)).frames()]


def test_a_part_of_a_video_is_restored_and_stays_where_the_host_keeps_temporary_files(
    restore: Any, host: SimpleNamespace
) -> None:
    result = restore(clip())
    video, report = result.args
    before, after = frames_of(str(CLIP)), frames_of(video.source)
    rate = FilmReader(CLIP).info.rate
    first = round(START * rate)
    assert len(after) == round((START + DURATION) * rate) - first
    assert Path(video.source).parent == host.models / "temp"
    assert [path.name for path in (host.models / "temp").iterdir()] == [Path(video.source).name]
    difference = np.abs(after[0] - before[first]).mean(-1)
    assert difference.max() > 0.05
    assert np.median(difference) < 0.01  # beside the face, only encoding changes anything
    assert f"{len(after)} frames" in report
    assert "face 0: " in report
    assert result.ui["images"] == [{"filename": Path(video.source).name, "subfolder": "", "type": "temp"}]
    assert result.ui["animated"] == (True,)
    assert host.bars[-1][-1] == (len(after), len(after))
    assert max(max(picture.size) for _, picture, _ in host.previews) <= 512


def test_a_video_in_memory_is_restored_too(restore: Any) -> None:
    (video, _), (same, _) = (restore(source).args for source in (Video(CLIP.read_bytes(), START, DURATION), clip()))
    assert all(np.array_equal(a, b) for a, b in zip(frames_of(video.source), frames_of(same.source), strict=True))


def test_what_is_not_restored_is_said(restore: Any) -> None:
    result = restore(clip(), faces="positions", positions="7", blend="auto", strength=0.5)
    (notes,) = result.ui["quantface_notes"]
    assert notes == [
        "strength 0.5 has no effect: blend is auto",
        "no face has such a position: set faces to all, and the report lists them",
    ]
    assert result.args[1].startswith(notes[0])


def test_a_cancelled_run_leaves_nothing(restore: Any, host: SimpleNamespace) -> None:
    def cancel() -> None:
        host.cancelled = True

    host.on_progress = cancel
    with pytest.raises(Cancelled):
        restore(clip())
    assert not list((host.models / "temp").iterdir())


def test_bad_positions_are_named(restore: Any) -> None:
    with pytest.raises(Exception, match="positions 'x'"):
        restore(clip(), faces="positions", positions="x")


def test_a_video_gets_a_container_that_holds_its_sound(restore: Any, tmp_path: Path) -> None:
    make(tmp_path / "old.wmv", "mpeg4", steps=(512,) * 4, sound="pcm_u8")  # which MP4 cannot hold
    video, _ = restore(Video(str(tmp_path / "old.wmv"))).args
    assert Path(video.source).suffix == ".mkv"
    assert FilmReader(Path(video.source)).info.others == ("pcm_u8",)


@pytest.mark.parametrize("deinterlace", [False, True])
def test_an_interlaced_video_is_made_whole_where_asked(deinterlace: bool, restore: Any, tmp_path: Path) -> None:
    """And the note that advises it names the input."""
    wall = np.full((64, 96, 3), 60, np.uint8)
    wall[16:48:2, 20:50] = wall[17:48:2, 26:56] = 220
    make(tmp_path / "home.mp4", size=(96, 64), pictures=[wall] * 4, steps=(512,) * 4, options={"flags": "+ildct+ilme"})
    video, report = restore(Video(str(tmp_path / "home.mp4")), deinterlace=deinterlace).args
    plane = next(FilmReader(Path(video.source)).frames()).planes[0][18:46, 20:26].astype(int)
    assert (np.abs(np.diff(plane, axis=0)).mean() > 50) != deinterlace
    assert ("turn on deinterlace" in report) != deinterlace
