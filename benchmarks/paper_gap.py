"""Compare how much of the gap between SVDQuant and full precision is closed, in the paper and here, by metric.

python benchmarks/paper_gap.py KEPT/comparison.jsonl   # from comparison.py --keep KEPT

The paper's figures are for OSDFace on its synthetic CelebA-Test (its table 1), ours for quantface-mini. Models, images
and metrics all differ: only shares of a gap can be compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from report import table

METRICS = ("CLIP-IQA", "DISTS", "LPIPS", "MANIQA", "MUSIQ", "NIQE", "Deg.", "LMD", "FID FFHQ", "FID CelebA")
FULL = (0.6910, 0.1773, 0.3365, 0.5423, 75.64, 3.884, 60.07, 5.287, 45.41, 17.06)
SVDQUANT = (0.5192, 0.2563, 0.4143, 0.3572, 58.90, 5.709, 76.35, 10.387, 84.91, 72.36)  # at w4a4
QUANTFACE = {
    "w4a4": (0.6045, 0.1867, 0.3485, 0.4255, 71.49, 4.813, 67.50, 5.951, 55.16, 32.52),
    "3.98": (0.5998, 0.1830, 0.3383, 0.4491, 73.00, 4.708, 65.75, 5.860, 51.02, 27.72),
}
OURS = ("ours", "ours, trained", "ours, allocated", "ours, allocated, trained")


def share(rival: float, ours: float, full: float) -> str:
    """The share of the gap that is closed, as a percentage."""
    return f"{(ours - rival) / (full - rival):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", type=Path)
    parser.add_argument("--full", type=float, nargs=2, required=True, help="PSNR and MS-SSIM of full precision")
    parser.add_argument("--rival", default="SVDQuant's recipe", help="the row that represents SVDQuant")
    options = parser.parse_args()
    rows = [[f"paper, {bits}", *map(share, SVDQUANT, figures, FULL)] for bits, figures in QUANTFACE.items()]
    print(table(["QuantFace's share of SVDQuant's gap", *METRICS], rows))
    points = {}
    for line in map(json.loads, options.points.read_text("utf-8").splitlines()):
        of, point = json.loads(line["of"]), line["point"]
        if not of["stressed"] and of["seed"] == 0:
            points[point["method"], point["bits"]] = point
    rival = points[options.rival, "w4a4"]
    exact = dict(zip(("psnr", "ms_ssim"), options.full, strict=True))
    rows = []
    for (method, bits), point in points.items():
        if method in OURS and bits in ("w4a4", "3.98"):
            shares = [share(rival[name], point[name], exact[name]) for name in exact]
            distance = 1 - 10 ** ((rival["to_full"] - point["to_full"]) / 10)
            rows.append([f"{method}, {bits}", *shares, f"{distance:.0%}"])
    print()
    print(table(["mini", "PSNR to original", "MS-SSIM", "squared distance to full precision"], rows))


if __name__ == "__main__":
    main()
