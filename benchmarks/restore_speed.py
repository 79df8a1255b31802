"""Seconds and memory of restoring one 512x512 single-face photo on this machine.

    python benchmarks/restore_speed.py [PHOTO]

Load and peak memory are those of a fresh process; times are medians of five runs after one to warm up.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "shared"


def main() -> None:
    photo_path = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "photos" / "nasa_astronaut.png"
    began = time.perf_counter()
    from quantface_core import FaceDetector, detector_path, load_restorer, read_photo, restore_photo, restorer_path

    detector = FaceDetector(detector_path())
    imported = time.perf_counter()
    restorer = load_restorer(restorer_path("quantface-mini"))
    loaded = time.perf_counter()
    photo = read_photo(photo_path)

    def restore() -> float:
        start = time.perf_counter()
        restore_photo(photo.pixels, restorer, detector(photo.pixels))
        return time.perf_counter() - start

    first = restore()
    runs = [restore() for _ in range(5)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    from report import describe_machine, table

    print(f"{photo_path.name}, {photo.pixels.shape[1]}x{photo.pixels.shape[0]}\n{describe_machine()}\n")
    rows: list[list[str | float]] = [
        ["import and detector", imported - began],
        ["load the model", loaded - imported],
        ["first photo", first],
        ["next photos, median", statistics.median(runs)],
        ["peak memory (MB)", peak],
    ]
    print(table(["", "seconds"], rows, digits=2))


if __name__ == "__main__":
    main()
