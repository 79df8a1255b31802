"""Which container holds which sound and subtitles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("av")

from quantface_core.errors import UsageError
from quantface_core.io.video import FilmInfo, FilmReader, check_container, choose_container
from tests.io.video.made import make


@pytest.fixture
def info(tmp_path: Path) -> FilmInfo:
    make(tmp_path / "a.mp4", steps=(512,) * 3)
    return FilmReader(tmp_path / "a.mp4").info


def test_codecs_are_known_by_their_own_names_not_their_coders(info: FilmInfo) -> None:
    of_discs = ("dts", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle")
    assert check_container(".mkv", replace(info, others=of_discs)) == []


@pytest.mark.parametrize(
    ("sound", "remedy"),
    [
        ("pcm_u8", r"name an output ending in \.mkv or \.mov or \.avi"),
        ("amr_nb", r"name an output ending in \.mov or \.avi"),  # of old phones
        ("atrac9", "convert its sound first"),
    ],
)
def test_the_remedy_for_sound_names_what_holds_it(info: FilmInfo, sound: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=rf"^\.mp4 cannot hold the film's sound \({sound}\): {remedy}"):
        check_container(".mp4", replace(info, others=(sound,)))


def test_the_note_on_subtitles_names_what_holds_them(info: FilmInfo) -> None:
    (note,) = check_container(".mkv", replace(info, others=("mov_text",)))
    assert note == ".mkv cannot hold its subtitles (mov_text), and they are left out: .mp4 or .mov can"


@pytest.mark.parametrize(
    ("suffix", "others", "chosen"),
    [
        (".mov", ("pcm_u8",), ".mov"),
        (".m4v", ("aac",), ".m4v"),
        (".flv", ("mp3",), ".mp4"),
        (".wmv", ("wmav2",), ".avi"),
        (".3gp", ("amr_nb", "mov_text"), ".mov"),
        (".m2ts", ("dts", "hdmv_pgs_subtitle"), ".mp4"),
        (".oma", ("atrac9",), ".mp4"),
    ],
)
def test_a_film_gets_a_container_that_holds_its_sound(
    info: FilmInfo, suffix: str, others: tuple[str, ...], chosen: str
) -> None:
    assert choose_container(suffix, replace(info, others=others)) == chosen
