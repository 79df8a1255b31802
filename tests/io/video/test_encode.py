"""Encoders: the same pictures wherever they write, and faces that move without flicker."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.bundled import DEMO_PHOTO, demo_faces
from quantface_core.errors import WriteError
from quantface_core.faces.align import extract, face_transform
from quantface_core.io.photos import read_photo
from quantface_core.io.video import FilmReader, SegmentWriter, choose_encoder
from quantface_core.io.video.encode import ENCODERS, Encoder
from tests.io.video.made import make

ROOT = Path(__file__).resolve().parents[3]
COUNT, SIDE = 16, 224  # 14 macroblocks a row: not the sixteen that fill a vector
STEP = np.array([0.37, -0.21])  # pixels a frame
CODECS = ("h264", "hevc", "vp8", "mpeg4", "mpeg2video")


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled portrait, drifting by parts of a pixel, without loss."""
    face = extract(read_photo(DEMO_PHOTO).pixels, face_transform(demo_faces()[0], 256), 256)
    pixels = np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("drifting") / "a.mkv"
    pictures = [_shifted(pixels, 16 + number * STEP) for number in range(COUNT)]
    make(path, "ffv1", "yuv420p", (SIDE, SIDE), (512,) * COUNT, pictures=pictures)
    return path


def _shifted(pixels: np.ndarray, by: np.ndarray) -> np.ndarray:
    places = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    return cv2.warpAffine(pixels, places, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _coded(source: Path, encoder: Encoder, target: Path) -> FilmReader:
    reader = FilmReader(source)
    writer = SegmentWriter(target, reader.info, encoder)
    for frame in reader.frames():
        writer.add(frame.planes)
    writer.close()
    return FilmReader(target)


def _flicker(source: Path, coded: FilmReader) -> float:
    """How much the error of one frame differs from the next one's, both laid on the still portrait."""
    pairs = zip(FilmReader(source).frames(), coded.frames(), strict=True)
    errors = [(b.rgb().astype(np.float32) - a.rgb()) / 257 for a, b in pairs]
    still = np.stack([_shifted(error, -number * STEP)[16:-16, 16:-16] for number, error in enumerate(errors)])
    return float(np.sqrt(np.square(np.diff(still, axis=0)).mean()))


def test_h264_flickers_less_than_its_own_choices_do_in_a_larger_file(drifting: Path, tmp_path: Path) -> None:
    ours = ENCODERS["h264"]
    theirs = replace(ours, crf=13, options=(("preset", "medium"), ("x264-params", "cpu-independent=1:threads=4")))
    steady = _flicker(drifting, _coded(drifting, ours, tmp_path / "ours.mkv"))
    sharp = _flicker(drifting, _coded(drifting, theirs, tmp_path / "theirs.mkv"))
    assert (tmp_path / "ours.mkv").stat().st_size < (tmp_path / "theirs.mkv").stat().st_size
    assert steady < 0.97 * sharp


def test_pictures_depend_neither_on_what_was_in_memory_nor_on_the_cores(drifting: Path, tmp_path: Path) -> None:
    told = []
    for number, (fill, cores) in enumerate((("0", None), ("85", None), ("170", 1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {**os.environ, "MALLOC_PERTURB_": fill, "PYTHONPATH": str(ROOT)}
        program = "import sys; from tests.io.video import test_encode; test_encode.tell_hashes(*sys.argv[1:])"
        arguments = [sys.executable, "-c", program, str(drifting), str(folder), *(["one core"] if cores else [])]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout.split())
    assert len(told[0]) == len(CODECS)
    assert told[0] == told[1] == told[2]


def test_a_part_that_cannot_be_written_is_told_with_its_name(drifting: Path, tmp_path: Path) -> None:
    """PyAV opens the file at once or with the first frame, as its version likes."""
    with pytest.raises(WriteError, match=r"nowhere/part\.mkv: cannot write .No such file"):
        _coded(drifting, ENCODERS["ffv1"], tmp_path / "nowhere" / "part.mkv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's disk that is always full")
def test_a_full_disk_is_told_with_the_part_s_name(drifting: Path) -> None:
    reader = FilmReader(drifting)
    writer = SegmentWriter(Path("/dev/full"), reader.info, ENCODERS["ffv1"])
    with pytest.raises(WriteError, match=r"/dev/full: cannot write .No space left"):
        deque(map(writer.add, [frame.planes for frame in reader.frames()] * 50))
    with pytest.raises(WriteError, match=r"/dev/full: cannot write .No space left"):
        writer.close()


def tell_hashes(source: str, folder: str, one_core: str = "") -> None:
    """Print a hash of each codec's pictures; run in a process of its own."""
    if one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for codec in CODECS:
        encoder = choose_encoder(FilmReader(Path(source)).info, ".mkv", codec)
        frames = _coded(Path(source), encoder, Path(folder) / f"{codec}.mkv").frames()
        print(hashlib.sha256(b"".join(p.tobytes() for frame in frames for p in frame.planes)).hexdigest())
