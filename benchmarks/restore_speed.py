"""Seconds and memory of restoring one 512x512 single-face photo on this machine.

    python benchmarks/restore_speed.py [PHOTO]

Load time and peak memory are those of a fresh process; the median is of five runs after a warm-up.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path, nargs="?", help="default: ../shared/photos/nasa_astronaut.png")
    arguments = parser.parse_args()
    began = time.perf_counter()
    from quantface_core import FaceDetector, detector_path, load_restorer, read_photo, restore_photo, restorer_path

    detector = FaceDetector(detector_path())
    imported = time.perf_counter()
    restorer = load_restorer(restorer_path("quantface-mini"))
    loaded = time.perf_counter()
    # Here, because what they import is timed above.
    from images import SHARED
    from report import describe_machine, table
    from timing import median, seconds

    path = arguments.photo or SHARED / "photos" / "nasa_astronaut.png"
    photo = read_photo(path)

    def restore() -> None:
        restore_photo(photo.pixels, restorer, detector(photo.pixels))

    first, later = seconds(restore), median(restore, 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"{path.name}, {photo.pixels.shape[1]}x{photo.pixels.shape[0]}\n{describe_machine()}\n")
    rows: list[list[str | float]] = [
        ["import and detector", imported - began],
        ["load the model", loaded - imported],
        ["first photo", first],
        ["next photos, median", later],
        ["peak memory (MB)", peak],
    ]
    print(table(["", "seconds"], rows, digits=2))


if __name__ == "__main__":
    main()
