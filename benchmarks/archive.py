"""An archive: a plain loop against the command, killed twice and gone on with, every result compared.

python benchmarks/archive.py FACES [--photos 2000] [--broken 20]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LOOP = """
import sys
from pathlib import Path
from quantface_core import FaceDetector, RestoreOptions, detector_path, load_restorer, restorer_path
from quantface_core.pipelines.jobs import find_photos, plan_jobs
from quantface_core.pipelines.restore_file import FileRequest, restore_file
restorer, detector = load_restorer(restorer_path("quantface-mini-w4a4")), FaceDetector(detector_path())
for job in plan_jobs(find_photos([sys.argv[1]], True), Path(sys.argv[2]), False):
    try:
        restore_file(FileRequest(job, restorer, detector, RestoreOptions()))
    except Exception as error:
        print(error, file=sys.stderr)
"""


def make(folder: Path, faces: list[Path], count: int, broken: int) -> None:
    """Photos of one portrait each, small, noisy and compressed, in nested folders; some are cut off."""
    draws = np.random.default_rng(0)
    cut = set(draws.choice(count, broken, replace=False).tolist())
    for number in range(count):
        face = cv2.imread(str(faces[number % len(faces)]))
        small = cv2.resize(face, (160, 160), interpolation=cv2.INTER_AREA) + draws.normal(0, 6, (160, 160, 3))
        photo = np.full((320, 480, 3), draws.integers(60, 200, 3), np.uint8)
        top, left = draws.integers(0, 160), draws.integers(0, 320)
        photo[top : top + 160, left : left + 160] = np.clip(small, 0, 255)
        path = folder / f"{number % 7}" / f"{number % 13}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 70])
        if number in cut:
            path.write_bytes(path.read_bytes()[:200])


def made(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of square portraits")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--broken", type=int, default=20)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as temporary:
        source, loop, whole, stopped = (Path(temporary) / name for name in ("in", "loop", "whole", "stopped"))
        make(source, sorted(options.faces.glob("*.jpg")), options.photos, options.broken)
        seconds = []
        command = [
            sys.executable,
            "-m",
            "quantface_core.cli.main",
            "restore",
            str(source),
            "-r",
            "--skip-existing",
            "-o",
        ]
        for run in ([sys.executable, "-c", LOOP, str(source), str(loop)], [*command, str(whole)]):
            began = time.perf_counter()
            subprocess.run(run, cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
            seconds.append(time.perf_counter() - began)
            print(f"{options.photos / seconds[-1]:.2f} photos a second", flush=True)
        print(f"side by side {seconds[0] / seconds[1]:.2f} times as fast; equal: {made(loop) == made(whole)}")
        for part in (1, 2):
            process = subprocess.Popen([*command, str(stopped)], cwd=ROOT, stderr=subprocess.DEVNULL)
            while process.poll() is None and len(made(stopped)) < part * options.photos // 3:
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*command, str(stopped)], cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
        print(f"killed twice and gone on with: equal: {made(whole) == made(stopped)}, {len(made(stopped))} results")


if __name__ == "__main__":
    main()
