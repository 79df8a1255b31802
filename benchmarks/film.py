"""Measure what a film gains, on one made from portraits, so that ground truth and motion are known.

    python benchmarks/film.py FACES [--seconds 20] [--rate 25] [--height 720] [--part quality resume memory]

Two people, one talking and blinking, cross before a moving background; then, after a cut, the other comes nearer,
tilting and talking. The film is degraded (smaller, noisy, compressed), given a sound track, and restored: frame by
frame, and steadied. Printed are, for the faces only, PSNR to the ground truth and the temporal error: how much one
frame's error differs from the next one's, both aligned to the portrait by its known motion, as a root mean square on
the scale of 255.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from film_scene import SIDE, Person, Scene, eyes_and_mouth, oval, portrait, radius, worse
from numpy.typing import NDArray
from report import describe_machine

from quantface_core.io.video import FilmReader
from quantface_core.types import Pixels

ROOT = Path(__file__).resolve().parents[1]
SOUND = 48_000
PIECE = 5  # seconds of film for killing and resuming: two parts of the work and the beginning of a third


def make(path: Path, scene: Scene, rate: int, crf: int, noise: float) -> None:
    """Write the degraded film, H.264 with a tone in AAC."""
    draws = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        video.width, video.height = scene.height * 16 // 9 // 2 * 2, scene.height
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=SOUND)
        sound.layout = "mono"
        for truth, _ in scene.frames():
            frame = av.VideoFrame.from_ndarray(worse(truth, draws, noise), "rgb24")
            container.mux(video.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU601")))
        container.mux(video.encode(None))
        for start in range(0, (scene.piece[1] - scene.piece[0]) * SOUND // rate, 1024):
            wave = np.sin(np.arange(start, start + 1024) * 440 * 2 * np.pi / SOUND) * 8000
            tone = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
            tone.pts, tone.sample_rate, tone.time_base = start, SOUND, Fraction(1, SOUND)
            container.mux(sound.encode(tone))
        container.mux(sound.encode(None))


def command(source: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "quantface_core.cli.main", "restore", str(source), "-o", str(output), *more]


def restore(source: Path, output: Path, *more: str) -> float:
    """Restore by the command; returns the peak memory of its process in MB."""
    program = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command(source, output, *more)], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


class Errors:
    """Errors of a film's faces, brows to chin, where nobody is in front of them; added frame by frame."""

    def __init__(self) -> None:
        self._inside, self._features = radius(0.28, 0.31) < 1, eyes_and_mouth()
        # [sum of squares, count] over all visible pixels:
        self._squares, self._moving, self._steps = np.zeros(2), np.zeros(2), np.zeros(2)  # steps: from the frame before
        self._before: dict[int, NDArray[np.float32]] = {}

    def add(self, number: int, truth: NDArray[np.float32], people: Sequence[Person], pixels: Pixels) -> None:
        """Add the next frame, by its number in the whole scene."""
        wrong, now = pixels.astype(np.float32) * (255 / np.iinfo(pixels.dtype).max) - truth, {}
        covered = np.zeros(truth.shape[:2], np.float32)
        for person in reversed(people):
            aligned = person.aligned(wrong, number)
            hidden = cv2.warpAffine(covered, person.place, (SIDE, SIDE), flags=cv2.WARP_INVERSE_MAP) > 0
            covered = np.maximum(covered, cv2.warpAffine(oval(), person.place, covered.shape[::-1]))
            aligned[~self._inside | hidden] = np.nan
            key = person.number + 7 * (len(people) == 1)
            now[key] = aligned
            step = aligned - self._before[key] if key in self._before else np.full(1, np.nan)
            moving = aligned[self._features]
            for found, errors in ((self._squares, aligned), (self._moving, moving), (self._steps, step)):
                found += np.nansum(np.square(errors), dtype=float), np.isfinite(errors).sum()
        self._before = now

    def summary(self) -> tuple[float, float, float]:
        """(PSNR, PSNR of eyes and mouth, temporal error)."""
        whole, moving, steps = (total / count for total, count in (self._squares, self._moving, self._steps))
        return float(10 * np.log10(255**2 / whole)), float(10 * np.log10(255**2 / moving)), float(np.sqrt(steps))


def all_errors(paths: Sequence[Path], scene: Scene) -> list[tuple[float, float, float]]:
    """`Errors.summary` of several films of one scene."""
    sums = [Errors() for _ in paths]
    films = zip(*(FilmReader(path).frames() for path in paths), strict=True)
    for number, ((truth, people), frames) in enumerate(zip(scene.frames(), films, strict=True), scene.piece[0]):
        for errors, frame in zip(sums, frames, strict=True):
            errors.add(number, truth, people, frame.rgb())
    return [errors.summary() for errors in sums]


def times(path: Path, kind: str) -> list[float]:
    """When a file's frames, or packets of sound, begin, in seconds."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None)


def quality(source: Path, folder: Path, scene: Scene) -> float:
    """Print what steadying gains; returns the peak memory of a whole run in MB, 0 if its film was kept."""
    rows, peak = [("as it is", source)], 0.0
    for name, more in (("frame by frame", ("--smoothing", "0")), ("steadied", ("--json", str(folder / "report.json")))):
        output = folder / f"{name}.mp4"
        rows.append((name, output))
        if output.exists():
            continue
        began = time.perf_counter()
        used = restore(source, output, *more)
        peak = used if name == "steadied" else peak
        print(f"{name}: {(time.perf_counter() - began) / (scene.piece[1] - scene.piece[0]):.2f} s a frame", flush=True)
    print("\n| film | PSNR of faces, dB | of eyes and mouth, dB | temporal error |\n|---|---:|---:|---:|")
    errors = all_errors([path for _, path in rows], scene)
    for (name, _), (psnr, moving, temporal) in zip(rows, errors, strict=True):
        print(f"| {name} | {psnr:.2f} | {moving:.2f} | {temporal:.2f} |")
    print(f"\ntemporal error, steadied: {errors[2][2] / errors[1][2]:.3f} of frame by frame's", flush=True)
    for kind in ("video", "audio"):
        same = times(source, kind) == times(folder / "steadied.mp4", kind)
        print(f"{kind} timestamps equal: {same}")
    for track in json.loads((folder / "report.json").read_text())["film"]["tracks"]:
        where = [round(box[0] + box[2] / 2) for box in (track["begins"], track["ends"])]
        print(f"track {track['number']}, shot {track['shot']}: x {where[0]} -> {where[1]}, {track['frames']} frames")
    return peak


def resume(source: Path, folder: Path) -> None:
    """Kill (-9) the run of a five-second piece twice, resume it, and compare it with an uninterrupted run."""
    whole, broken = folder / "unbroken.mp4", folder / "broken.mp4"
    piece = ("--to", str(PIECE))
    restore(source, whole, *piece)
    more: tuple[str, ...] = piece
    for parts in (1, 2):
        process = subprocess.Popen(command(source, broken, *more), cwd=ROOT)
        while process.poll() is None and len(list(folder.glob("broken.mp4.part/*.json"))) < parts + 1:
            time.sleep(0.2)
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        more = (*piece, "--resume")
    restore(source, broken, *more)
    pairs = zip(FilmReader(whole).frames(), FilmReader(broken).frames(), strict=True)
    same = [a.pts == b.pts and all(map(np.array_equal, a.planes, b.planes)) for a, b in pairs]
    print(f"{PIECE} seconds killed twice and resumed: {sum(same)} of {len(same)} frames equal", flush=True)


def memory(source: Path, folder: Path, whole: float) -> None:
    """Compare the peak memory of a short piece with that of all, `whole`, if that is known already."""
    peaks = [restore(source, folder / "piece.mp4", "--to", "2"), whole or restore(source, folder / "whole.mp4")]
    print(f"peak memory: {peaks[0]:.0f} MB for 2 seconds, {peaks[1]:.0f} MB for all: {peaks[1] / peaks[0]:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of square portraits; the first four are used")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--crf", type=int, default=27, help="of the degraded film: 27, or 36 for strong compression")
    parser.add_argument("--noise", type=float, default=7.0, help="of the degraded film, standard deviation of 255")
    parser.add_argument(
        "--part", nargs="+", choices=["quality", "resume", "memory"], default=["quality", "resume", "memory"]
    )
    parser.add_argument("--piece", type=int, nargs=2, metavar=("FIRST", "END"), help="only these frames of it")
    parser.add_argument("--keep", type=Path, help="keep the films here; those kept are not made again")
    options = parser.parse_args()
    paths = sorted(p for p in options.faces.iterdir() if p.suffix == ".jpg")[:4]
    faces = [portrait(path) for path in paths]
    count = round(options.seconds * options.rate)
    scene = Scene(faces, options.height, count, tuple(options.piece or (0, count)))
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "settings.json"
        settings = {name: str(value) for name, value in vars(options).items() if name not in ("part", "keep")}
        if kept.exists() and json.loads(kept.read_text()) != settings:
            parser.error(f"{folder} holds films of other settings")
        kept.write_text(json.dumps(settings))
        source = folder / "film.mp4"
        if not source.exists():
            make(source, scene, options.rate, options.crf, options.noise)
        print(describe_machine())
        first, end = scene.piece
        worsened = f"crf {options.crf}, noise {options.noise:g}"
        print(f"frames {first} to {end} of {options.height}p, {options.rate} a second, {worsened}", flush=True)
        peak = quality(source, folder, scene) if "quality" in options.part else 0.0
        if "resume" in options.part:
            resume(source, folder)
        if "memory" in options.part:
            memory(source, folder, peak)


if __name__ == "__main__":
    main()
