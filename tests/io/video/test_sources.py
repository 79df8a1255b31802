"""Films as phones, cameras, discs and broadcasts have them: nothing of them is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av

from quantface_core.io.video import FilmReader, Span
from tests.io.video.made import again, make, packet_times, picture, remux, seconds_of

PLACE = {"com.apple.quicktime.location.ISO6709": "+48.1+011.5/", "com.apple.quicktime.make": "Apple", "title": "Walk"}
DISPLAY = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "20:15 talk.mp4")
    Path("20:30").mkdir()
    assert len(list(again(Path("20:15 talk.mp4"), Path("20:30/talk.mp4")).frames())) == 30


def test_place_and_camera_of_a_phone_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "a.mov", steps=(512,) * 3)
    remux(tmp_path / "a.mov", tmp_path / "b.mov", options={"movflags": "use_metadata_tags"}, metadata=PLACE)
    again(tmp_path / "b.mov", tmp_path / "c.mov")
    with av.open(str(tmp_path / "c.mov")) as film:
        assert {key: film.metadata.get(key) for key in PLACE} == PLACE


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_film_begins_with_its_index(tmp_path: Path, suffix: str) -> None:
    make(tmp_path / "a.mp4")
    again(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
    written = (tmp_path / f"b{suffix}").read_bytes()
    assert 0 < written.index(b"moov") < written.index(b"mdat")


def test_fonts_of_subtitles_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", steps=(512,) * 3)
    remux(tmp_path / "a.mp4", tmp_path / "b.mkv", attachment=("type.ttf", "font/ttf", b"glyphs"))
    again(tmp_path / "b.mkv", tmp_path / "c.mkv")
    again(tmp_path / "b.mkv", tmp_path / "c.mp4")  # which holds none
    with av.open(str(tmp_path / "c.mkv")) as film:
        (font,) = [stream for stream in film.streams if stream.type == "attachment"]
        assert (font.name, font.mimetype, font.data) == ("type.ttf", "font/ttf", b"glyphs")


def test_sound_whose_channels_have_no_names_goes_into_mp4(tmp_path: Path) -> None:
    make(tmp_path / "a.avi", "mpeg4", sound="pcm_s16le", layout="stereo")
    again(tmp_path / "a.avi", tmp_path / "b.mp4")
    sizes = [sum(size for _, size in packet_times(tmp_path / name, "audio")) for name in ("a.avi", "b.mp4")]
    assert sizes[0] == sizes[1] > 0


def test_a_film_without_an_index_is_read_from_its_first_picture(tmp_path: Path) -> None:
    make(tmp_path / "a.flv", "flv", sound=True)
    reader = FilmReader(tmp_path / "a.flv")
    assert len(list(reader.frames(0))) == 30
    again(tmp_path / "a.flv", tmp_path / "b.mp4", Span(Fraction(2, 5)))
    sound = packet_times(tmp_path / "b.mp4", "audio")
    assert 0 <= sound[0][0] < 0.03
    assert 0.7 < sound[-1][0] < 0.9


def test_a_film_whose_index_leads_past_a_picture_is_read_from_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.mp4")
    reader, decoded, passes = FilmReader(tmp_path / "a.mp4"), FilmReader._decoded, []

    def late_at_first(self: FilmReader, container: Any, stream: Any) -> Iterator[Any]:
        passes.append(stream)
        return islice(decoded(self, container, stream), 20 if len(passes) == 1 else 0, None)

    times = [frame.pts for frame in reader.frames()]
    monkeypatch.setattr(FilmReader, "_decoded", late_at_first)
    assert [frame.pts for frame in reader.frames(times[10])] == times[10:]


def test_times_that_begin_again_go_on(tmp_path: Path) -> None:
    make(tmp_path / "a.ts", sound=True)
    make(tmp_path / "b.ts", steps=(512,) * 60, sound=True)
    (tmp_path / "c.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    reader = FilmReader(tmp_path / "c.ts")
    frames = list(reader.frames())
    assert np.diff([float(frame.pts * reader.info.time_base) for frame in frames]) == pytest.approx([0.04] * 89)
    for number in (10, 40):
        assert [frame.pts for frame in reader.frames(frames[number].pts)] == [frame.pts for frame in frames[number:]]
    again(tmp_path / "c.ts", tmp_path / "d.mp4")
    assert len(packet_times(tmp_path / "d.mp4", "video")) == 90
    sound = [time for time, _ in packet_times(tmp_path / "d.mp4", "audio")]
    assert max(np.diff(sound)) < 0.03
    assert 3.5 < sound[-1] < 3.7


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", "mpeg4")
    remux(tmp_path / "a.mp4", tmp_path / "b.mp4", last=50 * 512)
    lengths = []
    for span, name in ((None, "c.mp4"), (Span(Fraction(0), Fraction(3, 2)), "d.mp4")):
        again(tmp_path / "b.mp4", tmp_path / name, span)
        lengths.append(seconds_of(tmp_path / name))
    assert lengths == pytest.approx([29 / 25 + 2, 1.5], abs=0.01)


@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_a_mirrored_film_is_shown_as_before(tmp_path: Path, rotation: int) -> None:
    make(tmp_path / "a.mp4", rotation=rotation, mirrored=True)
    wanted = np.rot90(picture(0, 64, 48), rotation // 90)[:, ::-1]
    for reader in (FilmReader(tmp_path / "a.mp4"), again(tmp_path / "a.mp4", tmp_path / "b.mp4")):
        assert np.abs(next(reader.frames()).rgb() / 257 - wanted).mean() < 6
    assert not reader.info.mirrored


def test_hdr_keeps_what_displays_map_its_tones_by(tmp_path: Path) -> None:
    options = {"x265-params": f"log-level=error:{DISPLAY}:transfer=smpte2084"}
    make(tmp_path / "a.mkv", "libx265", "yuv420p10le", steps=(512,) * 3, options=options)
    assert FilmReader(tmp_path / "a.mkv").info.hdr10 == DISPLAY
    assert again(tmp_path / "a.mkv", tmp_path / "b.mp4").info.hdr10 == DISPLAY


def test_a_film_without_such_numbers_declares_none(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", "libx265", "yuv420p10le", steps=(512,) * 3, options={"x265-params": "log-level=error"})
    assert again(tmp_path / "a.mkv", tmp_path / "b.mkv").info.hdr10 == ""


def test_transparency_beside_the_frames_is_told(tmp_path: Path) -> None:
    make(tmp_path / "a.webm", "libvpx-vp9", "yuva420p", steps=(512,) * 3)
    assert FilmReader(tmp_path / "a.webm").info.notes == ("transparency is left out",)
