"""Photos per second of one process and of Ray's workers, one of them killed half-way; and a cluster's estimate.

PYTHONPATH=. python benchmarks/scale.py FACES [--photos 2000] [--broken 20] [--actors 1 2] [--model NAME|FILE]

Photos and model are those of archive.py. Every worker, and the single process, computes with one thread.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from archive import made, make, narrow
from report import describe_machine, table

from quantface_core.io.models import restorer_path
from quantface_core.options import RestoreOptions
from quantface_core.pipelines.bulk import BulkRequest, restore_bulk
from quantface_core.pipelines.bulk_plan import plan_bulk
from quantface_core.pipelines.jobs import find_photos, plan_jobs
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult, RestoreRequest, restore

MACHINES, GIGABIT = (1, 4, 16, 64), 125e6  # bytes per second of a 1 Gbit/s link


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of square portraits")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", help="name or file (default: a narrow one, made here)")
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # like the single process that they are compared with
    print(f"{describe_machine()}; load before: {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = restorer_path(options.model) if options.model else Path(narrow(folder / "narrow.safetensors"))
        make(folder / "in", sorted(options.faces.glob("*.jpg")), options.photos, options.broken)
        asked = RestoreRequest((), Execution(model, torch.device("cpu"), threads=1), RestoreOptions())
        jobs = plan_jobs(find_photos([str(folder / "in")], True), folder / "single", False)
        began = time.perf_counter()
        results = list(restore(replace(asked, jobs=jobs)))
        seconds = time.perf_counter() - began
        alone = row("one process", results, seconds, True)
        print(alone, flush=True)
        rows = [alone]
        for actors in options.actors:
            output = folder / f"by{actors}"
            plan = plan_bulk([(folder / "in").as_uri()], output.as_uri(), recursive=True)
            results, seconds, killed = timed(BulkRequest(plan, asked, actors=actors), actors > 1)
            equal = made(output) == made(folder / "single") and len({r.source for r in results}) == len(jobs)
            name = f"{actors} workers" + (", one killed half-way" if killed else "")
            rows.append(row(name, results, seconds, equal))
            print(rows[-1], flush=True)
        print(table(["", "photos", "reported", "seconds", "photos a second", "equal, each once"], rows, 2))
        size = sum(map(len, made(folder / "in").values())) / len(jobs)
        size += sum(map(len, made(folder / "single").values())) / len(jobs)
        print(cluster(sum(r.seconds for r in results) / len(results), size))


def timed(request: BulkRequest, kill: bool) -> tuple[list[PhotoResult], float, bool]:
    """(results, seconds including Ray's start, whether a worker was killed); the kill comes once half is done."""
    began, results, killed = time.perf_counter(), [], False
    for result in restore_bulk(request):
        results.append(result)
        if kill and not killed and 2 * len(results) >= len(request.plan.photos):
            os.kill(workers(os.getpid())[0], signal.SIGKILL)
            killed = True
    return results, time.perf_counter() - began, killed


def workers(pid: int) -> list[int]:
    """Process ids of Ray's workers below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            is_worker = b"ray::MapWorker" in Path(f"/proc/{child}/cmdline").read_bytes()
            found += [child] if is_worker else workers(child)
    return found


def row(name: str, results: list[PhotoResult], seconds: float, equal: bool) -> list[str | float]:
    reported = sum(bool(result.error) for result in results)
    return [name, str(len(results)), str(reported), seconds, len(results) / seconds, str(equal)]


def cluster(seconds: float, size: float, cores: int = 2) -> str:
    """Photos per hour of N machines like this one, each core a worker, limited by the CPU or a shared 1 Gbit/s store.

    This is arithmetic, not a measurement.
    """
    by_processor = cores * 3600 / seconds
    by_link = GIGABIT * 3600 / size
    rows = [[str(n), f"{n * by_processor:.0f}", f"{min(n * by_processor, by_link):.0f}"] for n in MACHINES]
    head = f"{seconds:.2f} s per photo and core, {size / 1e3:.0f} kB read and written per photo\n"
    return head + table(["machines", "photos an hour, processor", "and one shared link of 1 Gbit/s"], rows)


if __name__ == "__main__":
    main()
