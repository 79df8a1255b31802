"""Measure what waiting threads cost: seconds per photo by OpenMP wait policy, alone and beside busy processes.

    python benchmarks/waiting.py PHOTO [--busy N] [--rounds 3]

Each setting runs in its own process, because the libraries read it when they load; they take turns, so that changing
load affects all alike. `--busy` starts so many processes that compute all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SETTINGS = {
    "as libraries have it": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"},
    "short spin": {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"},
    "longer spin": {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"},
    "long spin": {"GOMP_SPINCOUNT": "100000", "KMP_BLOCKTIME": "5"},
}
_NAMES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
_CHILD = """
import json, sys, time
from pathlib import Path
from quantface_core import FaceDetector, RestoreOptions, detector_path, load_restorer, read_photo, restorer_path
from quantface_core import restore_photo
options = RestoreOptions(strength=1.0)
restorer, detector = load_restorer(restorer_path("quantface-mini-w4a4")), FaceDetector(detector_path())
photo = read_photo(Path(sys.argv[1])).pixels
restore_photo(photo, restorer, detector(photo), options)
times = []
for _ in range(int(sys.argv[2])):
    began, used = time.perf_counter(), time.process_time()
    restore_photo(photo, restorer, detector(photo), options)
    times.append((time.perf_counter() - began, time.process_time() - used))
print(json.dumps(times))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=5, help="photos per process")
    arguments = parser.parse_args()
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.busy)]
    plain = {name: value for name, value in os.environ.items() if name not in (*_NAMES, "OMP_NUM_THREADS")}
    times: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
    try:
        for _ in range(arguments.rounds):
            for name, setting in SETTINGS.items():
                command = [sys.executable, "-c", _CHILD, str(arguments.photo), str(arguments.times)]
                run = subprocess.run(command, env={**plain, **setting}, capture_output=True, text=True, check=True)
                times[name] += json.loads(run.stdout)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{os.cpu_count()} cores, load {load:.1f}, {arguments.busy} busy processes started here")
    for name, found in times.items():
        seconds, used = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"{name:22} {seconds:.2f} s per photo, {used:.2f} s of CPU time")


if __name__ == "__main__":
    main()
