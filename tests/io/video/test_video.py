"""Films read, written in parts and joined: pictures, times, colours and sound as they were."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.errors import ImageError, QuantFaceError, UsageError, WriteError
from quantface_core.io.video import (
    FilmReader,
    Part,
    SegmentWriter,
    Span,
    check_container,
    choose_encoder,
    join,
    stored_size,
)
from quantface_core.requirements import install_command
from tests.io.video.made import (
    CHAPTERS,
    SUBTITLES,
    again,
    chapters_of,
    make,
    packet_times,
    picture,
    subtitles_of,
    with_subtitles,
)
from tests.windows import refuse_open_files

UNEVEN = tuple(512 + 100 * (i % 3) for i in range(30))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size"),
    [
        ("h264.mp4", "libx264", "yuv420p", (64, 48)),
        ("deep.mp4", "libx264", "yuv422p10le", (64, 48)),
        ("odd.mkv", "libx264", "yuv444p", (65, 49)),
        ("vp9.webm", "libvpx-vp9", "yuv420p", (65, 49)),
        ("mpeg4.avi", "mpeg4", "yuv420p", (64, 48)),
        ("prores.mov", "prores_ks", "yuv422p10le", (64, 48)),
        ("ffv1.mkv", "ffv1", "bgr0", (64, 48)),
    ],
)
def test_films_come_back_as_they_were(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    source = tmp_path / name
    make(source, codec, pix_fmt, size)
    result, original = again(source, tmp_path / f"again-{name}"), FilmReader(source)
    assert result.info == original.info
    pairs = list(zip(original.frames(), result.frames(), strict=True))
    assert len(pairs) == 30
    for a, b in pairs:
        assert a.pts == b.pts
        white = np.iinfo(a.rgb().dtype).max
        assert np.abs(a.rgb().astype(float) - b.rgb()).mean() / white * 255 < 1.5


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_uneven_times_and_sound_are_kept(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    times = make(source, codec, steps=UNEVEN, sound=True)
    result = again(source, target)
    got = [float(frame.pts * result.info.time_base) for frame in result.frames()]
    np.testing.assert_allclose(got, [float(t) for t in times], atol=1e-6 if suffix == ".mp4" else 1.1e-3)
    assert packet_times(target, "audio") == packet_times(source, "audio")
    assert [t for t, _ in packet_times(target, "video")] == [t for t, _ in packet_times(source, "video")]


@pytest.mark.parametrize(("rotation", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_a_turned_film_is_read_and_written_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    make(tmp_path / "a.mp4", rotation=rotation, aspect=Fraction(4, 3))
    for reader in (FilmReader(tmp_path / "a.mp4"), again(tmp_path / "a.mp4", tmp_path / "b.mp4")):
        first = next(reader.frames()).rgb()
        assert first.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
        assert first[corner].min() > 200 * 257  # the bright corner, turned with the picture
        assert reader.info.aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))
    assert reader.info.quarters == 0


@pytest.mark.parametrize(("tags", "full", "matrix"), [((2, 1), True, "bt709"), ((1, 6), False, "bt601")])
def test_range_and_matrix_are_kept(tmp_path: Path, tags: tuple[int, int], full: bool, matrix: str) -> None:
    make(tmp_path / "a.mp4", tags=tags)
    info = again(tmp_path / "a.mp4", tmp_path / "b.mp4").info
    assert (info.coding.full, info.coding.matrix) == (full, matrix)
    assert info.tags[:2] == tags


def test_reading_begins_anywhere(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", steps=UNEVEN, options={"g": "10"})
    reader = FilmReader(tmp_path / "a.mp4")
    frames = list(reader.frames())
    for wanted in (frames[0], frames[9], frames[10], frames[23]):
        found = next(reader.frames(wanted.pts))
        assert found.pts == wanted.pts
        assert all(map(np.array_equal, found.planes, wanted.planes))


def test_a_range_takes_its_sound_along(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", steps=(512,) * 50, sound=True)
    reader = FilmReader(tmp_path / "a.mp4")
    info, encoder = reader.info, choose_encoder(reader.info, ".mp4")
    part = tmp_path / "part.mkv"
    writer, times = SegmentWriter(part, info, encoder), []
    for frame in list(reader.frames())[20:35]:
        writer.add(frame.planes)
        times.append(frame.pts)
    writer.close()
    join(
        [Part(part, times, writer.delay)],
        info,
        encoder,
        reader.path,
        Span(Fraction(4, 5), Fraction(7, 5)),
        tmp_path / "b.mp4",
    )
    assert [t for t, _ in packet_times(tmp_path / "b.mp4", "video")] == pytest.approx([i / 25 for i in range(15)])
    sound = packet_times(tmp_path / "b.mp4", "audio")
    assert 0 <= sound[0][0] < 0.03
    assert 0.55 < sound[-1][0] < 0.6


def test_subtitles_and_chapters_are_copied(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4")
    film = tmp_path / "b.mkv"
    with_subtitles(tmp_path / "a.mp4", film)
    again(film, tmp_path / "c.mkv")
    assert subtitles_of(tmp_path / "c.mkv") == [(*one, "eng") for one in SUBTITLES]
    assert chapters_of(tmp_path / "c.mkv") == list(CHAPTERS)
    info = FilmReader(film).info
    assert check_container(".mp4", info) == [".mp4 cannot hold its subtitles (subrip), and they are left out: .mkv can"]


def test_texts_that_are_not_utf_8_stop_nothing(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4")
    with_subtitles(tmp_path / "a.mp4", tmp_path / "b.mkv")
    film, title = tmp_path / "c.mkv", CHAPTERS[0][2].encode()
    film.write_bytes((tmp_path / "b.mkv").read_bytes().replace(title, b"\xe9" * len(title)))
    again(film, tmp_path / "d.mkv")
    assert [begin for begin, *_ in chapters_of(tmp_path / "d.mkv")] == [begin for begin, *_ in CHAPTERS]


@pytest.mark.parametrize("version", ["17.0.0", "17.0rc1"])
def test_a_pyav_that_is_too_old_is_refused(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.__version__", version)
    command = install_command('"av>=17.1"')
    with pytest.raises(QuantFaceError, match=re.escape(f"17.1 or later, not {version}: {command}")):
        FilmReader(tmp_path / "a.mp4")


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", sound=True)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "text.mp4").write_text("no film at all")
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its table of contents was at the end
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        container.add_stream("aac", rate=48000)
    for name in ("text.mp4", "cut.mp4", "sound.mp4", "gone.mp4"):
        with pytest.raises(ImageError, match=rf"{name}: ") as refused:
            FilmReader(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_a_damaged_tail_is_left_out(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", steps=(512,) * 50, options={"g": "5"}, size=(160, 120))
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    frames = list(FilmReader(tmp_path / "b.mkv").frames())
    assert 15 < len(frames) < 50
    draws = np.random.default_rng(0)
    noisy = np.frombuffer(whole, np.uint8).copy()
    noisy[len(noisy) // 2 : len(noisy) * 3 // 5] = draws.integers(0, 256, len(noisy) * 3 // 5 - len(noisy) // 2)
    (tmp_path / "c.mkv").write_bytes(noisy.tobytes())
    reader = FilmReader(tmp_path / "c.mkv")
    times = [frame.pts for frame in reader.frames()]
    assert len(times) > 20
    assert times == sorted(set(times))


def test_damaged_pieces_are_counted_once(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", steps=(512,) * 50, options={"g": "5"}, size=(160, 120))
    noisy = np.frombuffer((tmp_path / "a.mp4").read_bytes(), np.uint8).copy()
    begin, end = len(noisy) * 2 // 5, len(noisy) // 2
    noisy[begin:end] = np.random.default_rng(0).integers(0, 256, end - begin)
    (tmp_path / "b.mp4").write_bytes(noisy.tobytes())
    reader = FilmReader(tmp_path / "b.mp4")
    frames = len(list(reader.frames()))
    damaged = reader.damaged
    assert damaged > 0
    assert len(list(reader.frames())) == frames
    assert reader.damaged == damaged


def test_codecs_qualities_and_containers(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", sound=True)
    info = FilmReader(tmp_path / "a.mp4").info
    assert choose_encoder(info, ".mp4").codec == "h264"
    assert choose_encoder(info, ".webm").codec == "vp9"
    assert choose_encoder(info, ".mkv", "hevc", 30).crf == 30
    for codec, crf, message in (
        ("h265", None, "choose one of"),
        ("hevc", 99, "from 0 to 51"),
        ("ffv1", 20, "no such quality scale"),
    ):
        with pytest.raises(UsageError, match=message):
            choose_encoder(info, ".mkv", codec, crf)
    with pytest.raises(UsageError, match="does not go into"):
        choose_encoder(info, ".webm", "h264")
    with pytest.raises(UsageError, match=r"cannot hold the film's sound \(aac\)"):
        check_container(".webm", info)
    make(tmp_path / "odd.mkv", "ffv1", "yuv420p", (65, 49))
    odd = FilmReader(tmp_path / "odd.mkv").info
    assert stored_size(odd, choose_encoder(odd, ".mkv")) == (65, 49)
    assert stored_size(odd, choose_encoder(odd, ".mkv", "h264")) == (66, 50)
    result = again(tmp_path / "odd.mkv", tmp_path / "even.mp4", codec="h264")
    assert (result.info.width, result.info.height) == (66, 50)
    shown = next(result.frames()).rgb()[:49, :65] / 257
    assert np.abs(shown - picture(0, 65, 49)).mean() < 6


def test_what_a_container_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.mp4", sound=True)
    with pytest.raises(WriteError, match=r"\.avi cannot hold this film") as refusal:
        again(tmp_path / "a.mp4", tmp_path / "b.avi")
    refuse_open_files(monkeypatch)
    for part in tmp_path.glob("b.avi.*.mkv"):
        part.unlink()  # also while somebody handles the error, and with it its traceback
    assert refusal.value


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's full disk")
def test_a_full_disk_is_not_taken_for_the_container_s_limits(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        again(tmp_path / "a.mp4", tmp_path / "b.mp4")
