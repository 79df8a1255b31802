"""What a film gains: made from portraits, so that the truth and its motion are known.

    python benchmarks/film.py FACES [--seconds 20] [--rate 25] [--height 720] [--part quality resume memory]

Two people, of whom one talks and blinks, cross before a moving background; then, after a cut, the other comes nearer,
tilting and talking. The film is made
worse (smaller, noisy, compressed), given a sound, and restored: frame by frame, and steadied. Printed are, of the faces
alone, PSNR against the truth and the temporal error: how much the error of one frame differs from the next one's, both
laid on the portrait by its known motion, as a root mean square of 255.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from report import describe_machine

from quantface_core.io.photos import read_photo
from quantface_core.io.video import FilmReader

ROOT = Path(__file__).resolve().parents[1]
SIDE = 512  # pixels of a portrait
SOUND = 48_000
PIECE = 5  # seconds that are killed and resumed: two parts of the work and the beginning of a third


@dataclass(frozen=True)
class Person:
    """A portrait and where it is in a frame."""

    number: int  # whose
    face: NDArray[np.uint8]  # [512, 512, 3]
    place: NDArray[np.float64]  # [2, 3]: portrait to frame
    talks: bool = False  # and blinks, as `mimicked` says

    def shown(self, frame: int) -> NDArray[np.uint8]:
        """The portrait as it is in a frame."""
        return np.asarray(row_by_row(self.face, mimicked(frame)) if self.talks else self.face)

    def laid(self, picture: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """A frame's picture laid on the still portrait, [512, 512, 3]."""
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
        portrait = cv2.warpAffine(picture, self.place, (SIDE, SIDE), flags=flags)
        return np.asarray(row_by_row(portrait, unmimicked(frame)) if self.talks else portrait)


def portrait(path: Path) -> NDArray[np.uint8]:
    """[512, 512, 3], as soft as a lens makes it: finer detail would shimmer wherever it is moved to."""
    pixels = cv2.resize(read_photo(path).pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.uint8)


def oval() -> NDArray[np.float32]:
    """What of a portrait is cut out, [512, 512] in 0 to 1."""
    return np.clip((1 - radius(0.38, 0.46)) / 0.06, 0, 1).astype(np.float32)


def radius(across: float, down: float) -> NDArray[np.float64]:
    """How far each place of a portrait is from its middle, in shares of an ellipse's radii."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    distance: NDArray[np.float64] = np.hypot((x - 0.5) / across, (y - 0.52) / down)
    return distance


def eyes_and_mouth() -> NDArray[np.bool_]:
    """Where a portrait moves while it talks and blinks, [512, 512]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    eyes = np.hypot((np.abs(x - 0.5) - 0.123) / 0.09, (y - 0.47) / 0.05) < 1
    mouth = np.hypot((x - 0.5) / 0.14, (y - 0.76) / 0.08) < 1
    return np.asarray(eyes | mouth)


def mimicked(number: int) -> NDArray[np.float32]:
    """Where each row of a talking and blinking portrait is taken from, [512, 512], in a frame of 25 a second.

    The mouth opens and closes three times a second; the eyes blink for a quarter of one.
    """
    x, y = (axis / _GRID for axis in np.meshgrid(np.arange(_GRID), np.arange(_GRID)))
    return _enlarged(_mimic(number, x, y))


def unmimicked(number: int) -> NDArray[np.float32]:
    """The inverse: where in it each row of the still portrait went, [512, 512]."""
    x, rows = (axis / _GRID for axis in np.meshgrid(np.arange(_GRID), np.arange(_GRID)))
    y = rows.copy()
    for _ in range(25):
        y += 0.5 * (rows - _mimic(number, x, y))
    return _enlarged(y)


_GRID = 128  # places a side at which motion, which is smooth, is computed


def _mimic(number: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    opened = 0.03 * (0.5 - 0.5 * np.cos(number * 2 * np.pi / 8)) * (0.6 + 0.4 * np.sin(number / 11))
    jaw = np.exp(-(((x - 0.5) / 0.14) ** 2) - ((y - 0.78) / 0.09) ** 2)
    shut = 1.2 * max(0.0, 1 - abs(number % 40 - 12) / 3)
    lids = sum(np.exp(-(((x - eye) / 0.09) ** 2) - ((y - 0.47) / 0.05) ** 2) for eye in (0.377, 0.623))
    return y - opened * jaw + shut * lids * (y - 0.47)


def _enlarged(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows in shares of a portrait, [128, 128], in pixels of it, [512, 512]."""
    still = np.arange(_GRID)[:, None] / _GRID
    moved = cv2.resize((rows - still).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(moved * SIDE + np.arange(SIDE, dtype=np.float32)[:, None], np.float32)


def row_by_row(image: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[Any]:
    """A picture [512, 512, 3] that takes each pixel from another row of its column."""
    columns = np.tile(np.arange(SIDE, dtype=np.float32), (SIDE, 1))
    return cv2.remap(image, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def placed(x: float, y: float, size: float, degrees: float) -> NDArray[np.float64]:
    """A portrait of `size` pixels about a point, turned."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, size / SIDE)
    matrix[:, 2] += np.array([x, y]) - SIDE / 2
    return matrix


@dataclass(frozen=True)
class Scene:
    """What is filmed."""

    faces: Sequence[NDArray[np.uint8]]
    height: int  # of the picture, pixels
    count: int  # of frames
    piece: tuple[int, int]  # the frames that are made

    def frames(self) -> Iterator[tuple[NDArray[np.uint8], list[Person]]]:
        """(truth [H, W, 3], people from back to front) of every frame; a cut at two thirds."""
        faces, height, count = self.faces, self.height, self.count
        width, cut = height * 16 // 9 // 2 * 2, count * 2 // 3
        large = (width * 5 // 4, height * 5 // 4)
        walls = [cv2.GaussianBlur(cv2.resize(face, large), (0, 0), height / 15) for face in faces[2:4]]
        for number in range(*self.piece):
            if number < cut:
                t, wall = number / max(1, cut - 1), walls[0]
                sway = 3 * np.sin(9 * t)
                people = [
                    Person(1, faces[1], placed(width * (0.75 - 0.5 * t), height * 0.52, height * 0.62, -sway)),
                    Person(0, faces[0], placed(width * (0.25 + 0.5 * t), height * 0.5, height * 0.68, sway), True),
                ]
            else:
                t, wall = (number - cut) / max(1, count - cut - 1), 255 - walls[1]
                size, tilt = height * (0.6 + 0.2 * t), 8 * np.sin(5 * t)
                people = [Person(1, faces[1], placed(width * 0.55, height * 0.5, size, tilt), True)]
            left, top = round(width / 5 * t), round(height / 10 * t)
            truth = wall[top : top + height, left : left + width].copy()
            for person in people:
                face = cv2.warpAffine(person.shown(number), person.place, (width, height), flags=cv2.INTER_LANCZOS4)
                soft = cv2.warpAffine(oval(), person.place, (width, height))[..., None]
                truth = np.rint(truth * (1 - soft) + face * soft).astype(np.uint8)
            yield truth, people


def worse(truth: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """As an old camera saw it: soft and noisy. The encoder's errors come on top."""
    height, width = truth.shape[:2]
    small = cv2.resize(truth, (round(width / 2.2), round(height / 2.2)), interpolation=cv2.INTER_AREA)
    noisy = small + draws.normal(0, 7, small.shape)
    soft = cv2.resize(np.clip(noisy, 0, 255).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(soft + draws.normal(0, 2, soft.shape)), 0, 255).astype(np.uint8)


def make(path: Path, scene: Scene, rate: int) -> None:
    """The worse film, H.264 with a tone in AAC."""
    draws = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "27"})
        video.width, video.height = scene.height * 16 // 9 // 2 * 2, scene.height
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=SOUND)
        sound.layout = "mono"
        for truth, _ in scene.frames():
            frame = av.VideoFrame.from_ndarray(worse(truth, draws), "rgb24")
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
    """Restored by the command; the peak memory of its process in MB."""
    program = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command(source, output, *more)], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


class Errors:
    """What is wrong with a film's faces, brows to chin, where nobody is before them; frame after frame."""

    def __init__(self) -> None:
        self._inside, self._features = radius(0.28, 0.31) < 1, eyes_and_mouth()
        self._squares: list[float] = []  # means, by face and frame
        self._moving: list[float] = []  # of eyes and mouth
        self._steps: list[float] = []  # of the difference to the frame before
        self._before: dict[int, NDArray[np.float32]] = {}

    def add(self, number: int, truth: NDArray[np.uint8], people: Sequence[Person], pixels: NDArray[np.uint8]) -> None:
        """The next frame, by its number in the whole scene."""
        wrong, now = pixels.astype(np.float32) - truth, {}
        covered = np.zeros(truth.shape[:2], np.float32)
        for person in reversed(people):
            laid = person.laid(wrong, number)
            hidden = cv2.warpAffine(covered, person.place, (SIDE, SIDE), flags=cv2.WARP_INVERSE_MAP) > 0
            covered = np.maximum(covered, cv2.warpAffine(oval(), person.place, covered.shape[::-1]))
            laid[~self._inside | hidden] = np.nan
            key = person.number + 7 * (len(people) == 1)
            now[key] = laid
            step = laid - self._before[key] if key in self._before else np.full(1, np.nan)
            for found, errors in ((self._squares, laid), (self._moving, laid[self._features]), (self._steps, step)):
                if not np.isnan(errors).all():
                    found.append(float(np.nanmean(np.square(errors))))
        self._before = now

    def summary(self) -> tuple[float, float, float]:
        """(PSNR, PSNR of eyes and mouth, temporal error)."""
        whole, moving = (10 * np.log10(255**2 / np.mean(one)) for one in (self._squares, self._moving))
        return float(whole), float(moving), float(np.sqrt(np.mean(self._steps)))


def all_errors(paths: Sequence[Path], scene: Scene) -> list[tuple[float, float, float]]:
    """Of several films of one scene, the same as `Errors.summary`."""
    sums = [Errors() for _ in paths]
    films = zip(*(FilmReader(path).frames() for path in paths), strict=True)
    for number, ((truth, people), frames) in enumerate(zip(scene.frames(), films, strict=True), scene.piece[0]):
        for errors, frame in zip(sums, frames, strict=True):
            errors.add(number, truth, people, frame.rgb())
    return [errors.summary() for errors in sums]


def times(path: Path, kind: str) -> list[float]:
    """When its frames, or packets of sound, begin, in seconds."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None)


def quality(source: Path, folder: Path, scene: Scene) -> float:
    """Print what steadying gains; the peak memory of a whole run in MB."""
    rows, peak = [("as it is", source)], 0.0
    for name, more in (("frame by frame", ("--smoothing", "0")), ("steadied", ("--json", str(folder / "report.json")))):
        began = time.perf_counter()
        peak = restore(source, folder / f"{name}.mp4", *more)
        print(f"{name}: {(time.perf_counter() - began) / (scene.piece[1] - scene.piece[0]):.2f} s a frame", flush=True)
        rows.append((name, folder / f"{name}.mp4"))
    print("\n| film | PSNR of faces, dB | of eyes and mouth, dB | temporal error |\n|---|---:|---:|---:|")
    for (name, _), (psnr, moving, temporal) in zip(rows, all_errors([path for _, path in rows], scene), strict=True):
        print(f"| {name} | {psnr:.2f} | {moving:.2f} | {temporal:.2f} |", flush=True)
    print()
    for kind in ("video", "audio"):
        same = times(source, kind) == times(folder / "steadied.mp4", kind)
        print(f"{kind} timestamps equal: {same}")
    for track in json.loads((folder / "report.json").read_text())["film"]["tracks"]:
        where = [round(box[0] + box[2] / 2) for box in (track["begins"], track["ends"])]
        print(f"track {track['number']}, shot {track['shot']}: x {where[0]} -> {where[1]}, {track['frames']} frames")
    return peak


def resume(source: Path, folder: Path) -> None:
    """A piece of five seconds, killed (-9) twice and resumed, against a run in one piece."""
    whole, broken = folder / "unbroken.mp4", folder / "broken.mp4"
    piece = ("--to", str(PIECE))
    restore(source, whole, *piece)
    more = piece
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
    """A short piece against the whole, whose peak is known where it was run already."""
    peaks = [restore(source, folder / "piece.mp4", "--to", "2"), whole or restore(source, folder / "whole.mp4")]
    print(f"peak memory: {peaks[0]:.0f} MB for 2 seconds, {peaks[1]:.0f} MB for all: {peaks[1] / peaks[0]:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of square portraits; its first four are taken")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument(
        "--part", nargs="+", choices=["quality", "resume", "memory"], default=["quality", "resume", "memory"]
    )
    parser.add_argument("--piece", type=int, nargs=2, metavar=("FIRST", "END"), help="only these frames of it")
    parser.add_argument("--keep", type=Path, help="keep the films in this folder")
    options = parser.parse_args()
    paths = sorted(p for p in options.faces.iterdir() if p.suffix == ".jpg")[:4]
    faces = [portrait(path) for path in paths]
    count = round(options.seconds * options.rate)
    scene = Scene(faces, options.height, count, tuple(options.piece or (0, count)))
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "film.mp4"
        make(source, scene, options.rate)
        print(describe_machine())
        print(f"frames {scene.piece[0]} to {scene.piece[1]} of {options.height}p, {options.rate} a second", flush=True)
        peak = quality(source, folder, scene) if "quality" in options.part else 0.0
        if "resume" in options.part:
            resume(source, folder)
        if "memory" in options.part:
            memory(source, folder, peak)


if __name__ == "__main__":
    main()
