"""Measure quantface-mini: degraded and restored test faces against their originals.

    python benchmarks/mini_quality.py [--faces ../shared/faces/test] [--picture OUT.png]

Prints the table in README. Faces are degraded with their position as seed, so results are reproducible.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from images import SHARED, as_stored, load, to_unit
from iqa import create_metric, score
from PIL import Image
from report import describe_machine, table

from quantface_core import OneStepRestorer, load_restorer, restorer_path
from quantface_core.degrade import degrade


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=SHARED / "faces" / "test")
    parser.add_argument("--model", default="quantface-mini")
    parser.add_argument("--picture", type=Path, help="write degraded, restored, original of the first 8 faces here")
    arguments = parser.parse_args()

    originals = load(arguments.faces)
    clean, degraded = to_unit(originals), to_unit([degrade(face, seed) for seed, face in enumerate(originals)])
    restorer = load_restorer(restorer_path(arguments.model))
    if not isinstance(restorer, OneStepRestorer):
        parser.error(f"{arguments.model} has no autoencoder")
    with torch.inference_mode():
        restored = as_stored(torch.cat([restorer(x * 2 - 1) for x in degraded.split(4)]) / 2 + 0.5)
        coded = torch.cat([restorer.decode(restorer.encode(x * 2 - 1)) for x in clean.split(4)])
    coded = as_stored(coded.float() / 2 + 0.5)

    full = {name: create_metric(name) for name in ("psnr", "ssim", "ms_ssim")}
    niqe = create_metric("niqe")
    rows: list[list[str | float]] = []
    sets = {"input": degraded, "restored": restored, "autoencoder alone": coded, "original": clean}
    for name, images in sets.items():
        pairs = ["" if images is clean else float(score(m, images, clean).mean()) for m in full.values()]
        rows.append([name, *pairs, float(score(niqe, images).mean())])
    gain = [float(a) - float(b) for a, b in zip(rows[1][1:], rows[0][1:], strict=True)]
    rows.insert(2, ["gain", *gain])
    print(f"{len(originals)} faces of {arguments.faces.name}, {arguments.model}\n{describe_machine()}\n")
    print(table(["", "PSNR (dB)", "SSIM", "MS-SSIM", "NIQE (lower is better)"], rows))
    if arguments.picture:
        shown = torch.stack([degraded, restored, clean])[:, :8].permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        Image.fromarray((shown * 255).round().byte().numpy()).save(arguments.picture)


if __name__ == "__main__":
    main()
