"""Seconds per face of several checkpoints, alternating in one process, and of the blend.

    python benchmarks/face_speed.py quantface-mini quantface-mini-w4a4 [OTHER.safetensors ...]

Ratios, of each model to the first, are medians over rounds, which makes them robust on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from report import describe_machine, table
from timing import seconds

from quantface_core import load_restorer, restorer_path
from quantface_core.faces.blend import blend_share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    restorers = {name: load_restorer(restorer_path(name), dtype=None) for name in arguments.models}
    face = np.random.default_rng(0).random((256, 256, 3), np.float32)
    jobs: dict[str, Callable[[], object]] = {"blend": lambda: blend_share(face, 0.9 * face)}
    for name, restorer in restorers.items():
        image = torch.from_numpy(face).permute(2, 0, 1)[None] * 2 - 1
        jobs[name] = partial(restorer, image)
    with torch.inference_mode():
        for job in jobs.values():
            job()
        rounds = [{name: seconds(job) for name, job in jobs.items()} for _ in range(arguments.rounds)]
    first = arguments.models[0]
    rows: list[list[str | float]] = [
        [name, statistics.median(r[name] for r in rounds), statistics.median(r[name] / r[first] for r in rounds)]
        for name in jobs
    ]
    print(f"{describe_machine()}\n\n{table(['', 'seconds', f'x {first}'], rows)}")


if __name__ == "__main__":
    main()
