"""Rehearse OSDFace at full size, from the authors' files to a restored face, with each stage's time and memory.

    PYTHONPATH=. python benchmarks/full_size.py [--work FOLDER] [--recipe osdface-w4a4] [--images FACES] [--tiny]

The originals are random (978 M parameters in the authors' formats): the real weights were not available. Every stage
runs in its own process, so that its peak memory is its own. Files already in FOLDER are not made again. Needs 20 GB of
disk and 24 GB of memory. `--tiny` does the same at narrow widths, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from images import SHARED

ROOT = Path(__file__).resolve().parents[1]
Rows = list[list[str | float]]


def make_originals(work: Path, tiny: bool) -> None:
    from quantface_core.restorer import OSDFACE
    from tests.random_originals import NARROW, random_lora, random_restorer, write_originals

    restorer = random_restorer(NARROW if tiny else OSDFACE)
    write_originals(restorer, random_lora(restorer), work / "originals")


def convert(work: Path, tiny: bool) -> None:
    from quantface_core.io.osdface import convert
    from tests.random_originals import NARROW, OSDFACE_REPO, SD

    sd, own = work / "originals" / SD, work / "originals" / OSDFACE_REPO
    files = {
        "unet": sd / "unet" / "diffusion_pytorch_model.safetensors",
        "vae": sd / "vae" / "diffusion_pytorch_model.safetensors",
        "embedder": own / "associate_2.ckpt",
        "projection": own / "embedding_change_weights.pth",
        "lora": own / "pytorch_lora_weights.safetensors",
    }
    convert(files, work / "osdface.safetensors", config=NARROW if tiny else None)


def restore(path: Path, faces: int, low_memory: bool) -> None:
    """Restore a photo's worth of aligned faces as `quantface restore` does, and print the seconds it took."""
    import torch

    from quantface_core import RestoreOptions, load_restorer
    from quantface_core.kernels.dispatch import choose_backend
    from quantface_core.nn.swap import prepare
    from quantface_core.restorer import OneStepRestorer, RestorerByStages
    from quantface_core.stages.batches import restore_crops

    device = torch.device("cpu")

    def load(prefixes: tuple[str, ...] | None = None) -> OneStepRestorer:
        restorer = load_restorer(path, dtype=None, prefixes=prefixes)
        assert isinstance(restorer, OneStepRestorer)
        prepare(restorer, choose_backend(device))
        return restorer

    began = time.perf_counter()
    restorer = RestorerByStages(load(()).config, device, load) if low_memory else load()
    loaded = time.perf_counter()
    size = restorer.config.image_size
    crops = list(np.random.default_rng(0).random((faces, size, size, 3), dtype=np.float32))
    restore_crops(crops, restorer, RestoreOptions(batch_size=1 if low_memory else 4))
    print(json.dumps({"load": loaded - began, "restore": time.perf_counter() - loaded}))


def run(command: list[str]) -> tuple[float, float, str]:
    """Run a process; returns seconds, peak resident memory in GB, and its last line."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env=environment, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode:
        raise SystemExit(f"failed ({process.returncode}): {' '.join(command)}")
    unit = 1e9 if sys.platform == "darwin" else 1e9 / 1024
    return time.perf_counter() - start, usage.ru_maxrss / unit, lines[-1] if lines else ""


def make(name: str, target: Path, command: list[str], rows: Rows) -> None:
    """Run a stage that makes a file, unless the file exists."""
    if target.exists():
        rows.append([f"{name}: exists", "", ""])
        return
    seconds, peak, _ = run(command)
    rows.append([name, seconds, peak])
    print(f"{name}: {seconds:.0f} s, {peak:.1f} GB", file=sys.stderr, flush=True)


def recipe_of_converted(name: str, work: Path) -> Path:
    """Write a bundled recipe with the converted originals as its source."""
    import quantface_core

    text = (Path(quantface_core.__file__).parent / "recipes" / f"{name}.toml").read_text("utf-8")
    text = re.sub(r"(?m)^source = .*$", f'source = "{(work / "osdface.safetensors").as_posix()}"', text)
    path = work / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


def restored(path: Path, rows: Rows, faces: int) -> None:
    me = [sys.executable, __file__, "--restore", str(path), "--faces"]
    cases = [("one face", 1, False), ("one face, low memory", 1, True)]
    cases += [(f"{faces} faces", faces, False), (f"{faces} faces, low memory", faces, True)] if faces else []
    for name, number, low in cases:
        _, peak, line = run([*me, str(number)] + ["--low-memory"] * low)
        took = json.loads(line)
        rows.append([f"{name}: load", took["load"], ""])
        rows.append([f"{name}: restore", took["restore"], peak])
        print(f"{name}: {took['restore']:.1f} s, {peak:.1f} GB", file=sys.stderr, flush=True)


def speeds(files: dict[str, Path], runs: int) -> Rows:
    found = {}
    for bits, path in files.items():
        script = str(Path(__file__).parent / "speed.py")
        *_, line = run([sys.executable, script, "--one", bits, str(path), "--runs", str(runs)])
        found[bits] = json.loads(line)
    rows: Rows = []
    for bits, row in found.items():
        cells: list[str | float] = [bits]
        for part in ("unet", "whole"):
            cells += [row[part], found["fp32"][part] / row[part], found["bf16"][part] / row[part]]
        rows.append([*cells, row["peak"] / 1000])
    return rows


def rehearse(arguments: argparse.Namespace, work: Path) -> None:
    from report import describe_machine, table
    from savings import count, savings

    from quantface_core.restorer import OSDFACE
    from tests.random_originals import NARROW, OSDFACE_REPO

    me = [sys.executable, __file__, "--work", str(work)] + ["--tiny"] * arguments.tiny
    began, rows = time.time(), Rows()
    source, result = work / "osdface.safetensors", work / f"{arguments.recipe}.safetensors"
    last_written = work / "originals" / OSDFACE_REPO / "pytorch_lora_weights.safetensors"
    make("make random originals", last_written, [*me, "--stage", "originals"], rows)
    make("convert", source, [*me, "--stage", "convert"], rows)
    recipe = recipe_of_converted(arguments.recipe, work)
    build = [sys.executable, "-m", "quantface_core.cli.main", "build", str(recipe), "--output", str(result)]
    build += ["--images", str(arguments.images), "--degrade"] if arguments.images else []
    make(f"build {arguments.recipe}", result, build, rows)
    restored(result, rows, arguments.faces)
    spoken = speeds({"fp32": source, "bf16": source, result.stem.rpartition("-")[2]: result}, arguments.runs)
    print(f"{describe_machine()}; random weights{', NARROW WIDTHS' if arguments.tiny else ''}\n")
    print(table(["stage", "seconds", "peak (GB)"], rows, 1))
    print(f"\ntotal: {(time.time() - began) / 60:.0f} minutes\n")
    print(table(["", "UNet (s)", "x fp32", "x bf16", "whole (s)", "x fp32", "x bf16", "peak (GB)"], spoken, 2))
    originals = sum(path.stat().st_size for path in (work / "originals").rglob("*") if path.is_file())
    sizes: Rows = [["originals", originals / 1e6, ""]]
    for path in (source, result):
        sizes.append([path.stem, path.stat().st_size / 1e6, f"{path.stat().st_size / source.stat().st_size:.1%}"])
    print(f"\n{table(['file', 'MB', 'of float32'], sizes, 1)}\n")
    saved = savings(result, count(NARROW if arguments.tiny else OSDFACE))
    print(f"saved: parameters {saved[0]:.2%}, operations {saved[1]:.2%} (the paper's figures: 84.85 %, 82.91 %)")
    print(f"including attention's products, which stay in floating point: operations {saved[2]:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces = SHARED / "faces" / "large"
    parser.add_argument("--work", type=Path, help="folder to keep everything in (default: a temporary one)")
    parser.add_argument("--recipe", default="osdface-w4a4")
    parser.add_argument("--images", type=Path, default=faces if faces.exists() else None, help="clean, aligned faces")
    parser.add_argument("--faces", type=int, default=24, help="in the large photo; 0 = skip it (24)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs per precision (3)")
    parser.add_argument("--tiny", action="store_true", help="narrow widths, to try the script")
    parser.add_argument("--stage", choices=["originals", "convert"], help=argparse.SUPPRESS)
    parser.add_argument("--restore", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--low-memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    stages: dict[str, Callable[[Path, bool], None]] = {"originals": make_originals, "convert": convert}
    if arguments.restore:
        restore(arguments.restore, arguments.faces, arguments.low_memory)
    elif arguments.stage:
        stages[arguments.stage](arguments.work, arguments.tiny)
    elif arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        rehearse(arguments, arguments.work.resolve())
    else:
        with tempfile.TemporaryDirectory() as work:
            rehearse(arguments, Path(work))


if __name__ == "__main__":
    main()
