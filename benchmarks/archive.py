"""Restore an archive by a plain loop and by the command, killed twice and resumed, comparing every result.

python benchmarks/archive.py FACES [--photos 2000] [--broken 20] [--timed 200] [--rounds 3] [--model NAME|FILE]

With `--photos 0` only the comparison with the loop is run. The loop keeps the libraries' default threads and waiting.

Without `--model`, an untrained model of the bundled one's classes is used, narrow and at 64 pixels: a photo then takes
a fraction of a second, mostly for reading, face detection and writing. The printed ratio is for that model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from report import describe_machine

from quantface_core.io.checkpoint import save_restorer
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer

ROOT = Path(__file__).resolve().parents[1]
LOOP = """
import sys
from pathlib import Path
from quantface_core import FaceDetector, RestoreOptions, detector_path, load_restorer, restorer_path
from quantface_core.pipelines.jobs import find_photos, plan_jobs
from quantface_core.pipelines.restore_file import FileRequest, restore_file
restorer, detector = load_restorer(restorer_path(sys.argv[3])), FaceDetector(detector_path())
for job in plan_jobs(find_photos([sys.argv[1]], True), Path(sys.argv[2]), False):
    try:
        restore_file(FileRequest(job, restorer, detector, RestoreOptions()))
    except Exception as error:
        print(error, file=sys.stderr)
"""


def make(folder: Path, faces: list[Path], count: int, broken: int) -> None:
    """Photos of one portrait each, small, noisy and compressed, in nested folders; some are truncated."""
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
    """The contents of all results in a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def count_of(folder: Path) -> int:
    return sum(not path.name.startswith(".") for path in folder.rglob("*.jpg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of square portraits")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--timed", type=int, default=200, help="photos compared with the loop, 1 in 100 broken")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison; fastest counts")
    parser.add_argument("--model", help="name or file (default: a narrow one, made here)")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model or narrow(folder / "narrow.safetensors")
        faces = sorted(options.faces.glob("*.jpg"))
        source, few, whole, stopped = (folder / name for name in ("in", "few", "whole", "stopped"))
        make(few, faces, options.timed, options.timed // 100)
        compare_with_loop(few, folder, model, options.rounds)
        if not options.photos:
            return
        make(source, faces, options.photos, options.broken)
        began = time.perf_counter()
        memory = watched(
            command(source, whole, model), whole, (options.photos // 10, options.photos - 2 * options.broken)
        )
        seconds = time.perf_counter() - began
        print(
            f"{options.photos} photos: {options.photos / seconds:.2f} a second, {len(made(whole))} results", flush=True
        )
        print("resident at a tenth and at the end: " + ", ".join(f"{size / 1e6:.0f} MB" for size in memory), flush=True)
        for part in (1, 2):
            kill_after(command(source, stopped, model), stopped, part * options.photos // 3)
        subprocess.run(command(source, stopped, model), cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
        records = [json.loads(line) for line in (stopped / "manifest.jsonl").read_text().splitlines()]
        failed = {record["output"] for record in records if record.get("error")}
        print(
            f"killed twice and resumed: equal {made(whole) == made(stopped)}, {len(made(stopped))} results, "
            f"{len(failed)} reported as broken"
        )


def narrow(path: Path) -> str:
    """Write a restorer that takes little time; returns its path."""
    torch.manual_seed(0)
    unet = {**QUANTFACE_MINI.unet, "sample_size": 16, "block_out_channels": (32, 32), "layers_per_block": 1}
    unet |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": (1, 2)}
    unet |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    vae = {**QUANTFACE_MINI.vae, "block_out_channels": (16, 16, 16), "norm_num_groups": 8}
    embedder = replace(
        QUANTFACE_MINI.embedder, image_size=32, channel_multipliers=(1, 1), attention_resolution=16, tokens=8, codes=16
    )
    config = replace(QUANTFACE_MINI, name="narrow", image_size=64, unet=unet, vae=vae, embedder=embedder)
    save_restorer(OneStepRestorer(config).eval(), path)
    return str(path)


def command(source: Path, output: Path, model: str) -> list[str]:
    start = [sys.executable, "-m", "quantface_core.cli.main", "restore", str(source), "-r", "--skip-existing"]
    return [*start, "-o", str(output), "--model", model]


def compare_with_loop(photos: Path, folder: Path, model: str, rounds: int) -> None:
    """Print the seconds of the loop and of the command, alternating, and the share of all cores that each kept busy.

    The fastest round of each counts.
    """
    seconds: dict[str, list[float]] = {"loop": [], "command": []}
    for number in range(rounds):
        outputs, told = {name: folder / f"{name}{number}" for name in seconds}, []
        loop = [sys.executable, "-c", LOOP, str(photos), str(outputs["loop"]), model]
        for name, run in (("loop", loop), ("command", command(photos, outputs["command"], model))):
            began, used = time.perf_counter(), children_seconds()
            subprocess.run(run, cwd=ROOT, stderr=subprocess.DEVNULL, check=False)
            wall = time.perf_counter() - began
            seconds[name].append(wall)
            told.append(f"{name} {wall:.1f} s, {(children_seconds() - used) / wall / (os.cpu_count() or 1):.0%} busy")
        equal = made(outputs["loop"]) == made(outputs["command"])
        print(f"{'; '.join(told)}; equal {equal}; load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"the command is {min(seconds['loop']) / min(seconds['command']):.2f} times as fast", flush=True)


def children_seconds() -> float:
    """CPU seconds of all processes started here that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watched(run: list[str], output: Path, counts: tuple[int, ...]) -> list[int]:
    """A run's resident bytes at the moments when it has produced each number of results."""
    process = subprocess.Popen(run, cwd=ROOT, stderr=subprocess.DEVNULL)
    sizes: list[int] = []
    while process.poll() is None:
        time.sleep(0.5)
        status = Path(f"/proc/{process.pid}/statm")
        if len(sizes) < len(counts) and status.exists() and count_of(output) >= counts[len(sizes)]:
            sizes.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return sizes


def kill_after(run: list[str], output: Path, count: int) -> None:
    process = subprocess.Popen(run, cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and count_of(output) < count:
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
