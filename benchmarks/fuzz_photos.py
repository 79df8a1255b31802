"""Fuzz photo reading: damaged images of 26 kinds are each read, or rejected in one line, and those read are written.

    python benchmarks/fuzz_photos.py [--files 10000] [--seed 0] [--limit 20]

Intact files of every kind are made, then damaged by a seeded draw: truncated, bits flipped, bytes overwritten, removed
or doubled, numbers made extreme, parts of two files joined. They are read in a separate process with limits on memory
and on seconds per file. Unhandled are all exceptions but ImageError, messages of more than one line or without the
file's name, crashes, and timeouts. The kind and number of each unhandled file are printed: `--only KIND:NUMBER`
recreates it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_kinds import damaged, kinds

from quantface_core.errors import ImageError
from quantface_core.io.photos import read_pages, write_pages

_MEMORY = 4 << 30  # bytes of address space that reading may use beyond the loaded libraries
_TARGETS = ("a.png", "a.jpg", "a.tif", "a.webp")
_START = 120  # seconds that the reading process may take to start, or between files
_WRITTEN = 7  # one in so many images read is also written: writing is slower


def _work(names: list[str], counts: list[int], seed: int, skip: int, pipe: Any) -> None:
    """Read every damaged file from number `skip` on; report each before reading it, and its outcome after."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # where decoders print warnings
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    whole = {name: make() for name, make in kinds().items() if name in names}
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for name, count in zip(names, counts, strict=True):
            for i in range(count):
                number += 1
                if number <= skip:
                    continue
                random = np.random.default_rng([seed, list(kinds()).index(name), i])
                path.write_bytes(damaged(whole[name], whole[names[int(random.integers(len(names)))]], random))
                pipe.send(("begins", name, i, ""))
                pipe.send(("ends", name, i, _outcome(path, i)))
    pipe.send(("done", "", 0, ""))


def _outcome(path: Path, number: int) -> str:
    try:
        pages = read_pages(path)
    except ImageError as error:
        line = str(error)
        return "refused" if "\n" not in line and line.startswith(str(path)) else f"unhandled: message {line!r:.200}"
    except BaseException as error:
        return f"unhandled: {type(error).__name__} {error}"
    if number % _WRITTEN or pages.photos[0].pixels.size > 1 << 22:
        return "read"
    try:
        write_pages(pages, path.with_name(_TARGETS[number // _WRITTEN % len(_TARGETS)]))
    except BaseException as error:
        return f"unhandled: writing, {type(error).__name__} {error}"
    return "read"


class _Reader:
    """A process that reads files `first` and on, and what it says of each."""

    def __init__(self, names: list[str], counts: list[int], seed: int, first: int) -> None:
        self._events, there = multiprocessing.Pipe(duplex=False)
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_work, args=(names, counts, seed, first, there))
        self._process.start()
        there.close()

    def outcomes(self, limit: float) -> Iterator[tuple[str, int, str, float]]:
        """(kind, number, outcome, seconds) of each file; ends with the files, a timeout in seconds, or a crash."""
        try:
            while begins := self._event(_START):
                event, kind, number, _ = begins
                if event == "done":
                    return
                start = time.perf_counter()
                ends = self._event(limit)
                lost = "unhandled: timeout" if self._process.is_alive() else "unhandled: a crash"
                yield kind, number, ends[3] if ends else lost, time.perf_counter() - start
                if not ends:
                    return
            raise SystemExit("the reading process did not start")
        finally:
            self._process.kill()
            self._process.join()

    def _event(self, seconds: float) -> tuple[str, str, int, str] | None:
        """The next event; None if there is none in time, or the process has died."""
        try:
            return self._events.recv() if self._events.poll(seconds) else None
        except EOFError:
            return None


def _damaged_file(name: str, number: int, seed: int) -> bytes:
    """The damaged file of a kind and number."""
    whole = {kind: make() for kind, make in kinds().items()}
    random = np.random.default_rng([seed, list(whole).index(name), number])
    return damaged(whole[name], list(whole.values())[int(random.integers(len(whole)))], random)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20, help="seconds per file")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="write this damaged file to ./damaged, and read it")
    arguments = parser.parse_args()
    if arguments.only:
        name, number = arguments.only.rsplit(":", 1)
        Path("damaged").write_bytes(_damaged_file(name, int(number), arguments.seed))
        print(read_pages(Path("damaged")))
        return 0
    names = list(kinds())
    counts = [arguments.files // len(names) + (i < arguments.files % len(names)) for i in range(len(names))]
    tallies, slowest, began = {name: Counter[str]() for name in names}, 0.0, time.perf_counter()
    while (done := sum(tally.total() for tally in tallies.values())) < arguments.files:
        for name, number, outcome, seconds in _Reader(names, counts, arguments.seed, done).outcomes(arguments.limit):
            slowest = max(slowest, seconds)
            tallies[name][outcome.split(":")[0]] += 1
            if outcome.startswith("unhandled"):
                print(f"{name}:{number} {outcome}", flush=True)
    print(f"{'kind':26} read refused unhandled")
    for name, tally in tallies.items():
        print(f"{name:26} {tally['read']:4} {tally['refused']:7} {tally['unhandled']:9}")
    print(f"seed {arguments.seed}, {time.perf_counter() - began:.0f} s, slowest file {slowest:.1f} s")
    unhandled = sum(tally["unhandled"] for tally in tallies.values())
    print(f"{unhandled} unhandled of {arguments.files:,}")
    return 1 if unhandled else 0


if __name__ == "__main__":
    sys.exit(main())
