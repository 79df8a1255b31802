"""The results of an evaluation: one row per model, one column per metric, as a table and as JSON."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import __version__
from ..degrade import degrade
from ..errors import UsageError
from ..io.atomic import atomic_path
from ..io.checkpoint import read_notes
from ..io.checksum import sha256
from ..metrics import frechet_distance
from ..nn.swap import quant_layers
from ..restorer import RestorerModel
from ..stages.evaluate import Column, Pair, Result, Tools, evaluate, make_columns, mean, title, to_pixels
from .callbacks import PipelineCallbacks
from .faces import read_aligned
from .pairs import Files


@dataclass(frozen=True)
class Row:
    """One model's row."""

    name: str
    file: Path
    folder: Path  # for its images
    is_reference: bool  # whether the other rows' images are compared with its


class Scorecard:
    """The table of an evaluation, built model by model."""

    def __init__(
        self,
        pairs: Mapping[str, Files],
        degraded: bool,
        names: Sequence[str],
        fid_references: Sequence[Path],
        tools: Tools,
    ) -> None:
        """`names` are metrics, `pairs` the faces by name; `degraded`: the faces are clean, and to be degraded first."""
        self.pairs, self.degraded, self.tools = pairs, degraded, tools
        self.names = list(dict.fromkeys(names))
        references = fid_references if "fid" in self.names else ()
        short = [path.name for path in references]
        self.fids = {f"fid {p.name if short.count(p.name) == 1 else p}": p for p in references}
        wanted = [name for name in self.names if name != "fid" or not self.fids]
        self.columns, self.missing = make_columns(wanted, tools)
        self.rows: dict[str, dict[str, Any]] = {}
        self.reference: Path | None = None  # the folder of the reference's images

    def add(self, row: Row, restorer: RestorerModel, callbacks: PipelineCallbacks) -> None:
        """Restore all faces with one model, save its images and evaluate them. Raises QuantFaceError."""
        columns = [c for c in self.columns if not (row.is_reference and c.name == "psnr_full")]
        report, done = callbacks.stage(row.name, "face"), 0

        def save(result: Result) -> None:
            nonlocal done
            with atomic_path(row.folder / f"{result.pair.name}.png") as temporary:
                Image.fromarray(to_pixels(result.restored)).save(temporary)
            report(done := done + 1, len(self.pairs))

        scores, broken = evaluate(restorer, self._read(restorer.image_size), columns, self.tools, save)
        self.missing |= broken
        means = {name: mean(values) for name, values in scores.items()} | self._distances(row.folder)
        self.rows[row.name] = {
            "file": str(row.file),
            "sha256": sha256(row.file),
            "size": restorer.image_size,
            "notes": {k: v for k, v in read_notes(row.file).items() if k != "reports"},
            "bits": _bits(restorer),
            "means": means,
            "judged": {name: sum(v is not None for v in values) for name, values in scores.items()},
            "values": scores,
        }
        if row.is_reference:
            self.reference = row.folder

    def _read(self, size: int) -> Iterator[Pair]:
        for seed, (name, (lq, gt)) in enumerate(self.pairs.items()):
            pixels = read_aligned(lq, size)
            original = None if gt is None else _unit(pixels if gt == lq else read_aligned(gt, size))
            given = _unit(degrade(pixels, seed) if self.degraded else pixels)
            reference = _unit(read_aligned(self.reference / f"{name}.png", size)) if self.reference else None
            yield Pair(name, given * 2 - 1, original, reference)

    def _distances(self, folder: Path) -> dict[str, float | None]:
        """FID on the images of these pairs alone: `folder` may hold those of an earlier evaluation too."""
        found: dict[str, float | None] = {}
        wanted = {name: references for name, references in self.fids.items() if name not in self.missing}
        with tempfile.TemporaryDirectory() as copies:
            for pair in self.pairs if wanted else ():
                shutil.copy(folder / f"{pair}.png", copies)
            for name, references in wanted.items():
                try:
                    found[name] = frechet_distance(Path(copies), references)
                except UsageError as error:
                    self.missing[name] = str(error)
        return found

    def _shown(self) -> list[tuple[str, str]]:
        """(name, title) of the table's columns, in the order asked for."""
        order = [n for name in self.names for n in (self.fids if name == "fid" and self.fids else (name,))]
        arrows = {c.name: " down" if c.lower_better else " up" for c in self.columns}
        titles = {n: title(n.split()[0]) + n.removeprefix(n.split()[0]) for n in order}
        return [(n, titles[n] + arrows.get(n, " down")) for n in order if n not in self.missing]

    def table(self) -> str:
        """Markdown, one row per model; below it what is missing and why."""
        shown = self._shown()
        lines = [_line(["model", *(text for _, text in shown)]), "|---" * (len(shown) + 1) + "|"]
        for row, values in self.rows.items():
            cells = ["" if (v := values["means"].get(name)) is None else f"{v:.4g}" for name, _ in shown]
            lines.append(_line([row, *cells]))
        lines += ["", f"{len(self.pairs)} faces."]
        for row, values in self.rows.items():
            few = {n: k for n, k in values["judged"].items() if k < len(self.pairs)}
            lines += [f"{row}: {name} measured on {k} faces; the others have no score." for name, k in few.items()]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"Not available: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        return "\n".join(lines)

    def report(self) -> dict[str, Any]:
        """All values, ready for JSON."""
        return {
            "versions": _versions(),
            "columns": {c.name: _described(c) for c in self.columns if c.name not in self.missing},
            "unavailable": self.missing,
            "pictures": list(self.pairs),
            "models": self.rows,
        }


def _line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _unit(pixels: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] float32 in 0 to 1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _described(column: Column) -> dict[str, Any]:
    return {"title": column.title, "better": "lower" if column.lower_better else "higher", "by": column.source}


def _bits(restorer: RestorerModel) -> dict[str, int]:
    """The number of layers by bit widths; full-precision layers are not counted."""
    return dict(sorted(Counter(str(layer.format.bits) for layer in quant_layers(restorer).values()).items()))


def _versions() -> dict[str, str]:
    found = {"quantface": __version__}
    for package in ("torch", "diffusers", "opencv-python-headless", "pyiqa"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
