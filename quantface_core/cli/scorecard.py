"""What an evaluation found: a row a model, a column a metric, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..errors import UsageError
from ..io.atomic import atomic_path
from .devices import choose_device
from .pairs import Files

if TYPE_CHECKING:
    from ..stages.evaluate import Column, Pair, Result, Tools


class Scorecard:
    """The rows so far; the first is the reference's where one is given, and its pictures serve the others."""

    def __init__(
        self, arguments: argparse.Namespace, pairs: Mapping[str, Files], names: Sequence[str], tools: Tools
    ) -> None:
        from ..stages.evaluate import make_columns

        self.arguments, self.pairs, self.tools = arguments, pairs, tools
        self.names = list(dict.fromkeys(names))
        references = arguments.fid_reference if "fid" in self.names else []
        names = [path.name for path in references]
        self.fids = {f"fid {p.name if names.count(p.name) == 1 else p}": p for p in references}
        wanted = [name for name in self.names if name != "fid" or not self.fids]
        self.columns, self.missing = make_columns(wanted, tools)
        self.rows: dict[str, dict[str, Any]] = {}
        self.reference: Path | None = None  # the folder of the reference's pictures

    def add(self, row: str, path: Path) -> None:
        """Restore with one model, save its pictures, judge them."""
        from PIL import Image

        from ..io.checkpoint import load_restorer, read_notes
        from ..io.models import sha256
        from ..stages.evaluate import evaluate, mean, to_pixels

        restorer = load_restorer(path, choose_device(self.arguments.device))
        folder = self.arguments.output / "restored" / row.replace("/", "_")
        is_reference = self.arguments.reference is not None and self.reference is None
        columns = [c for c in self.columns if not (is_reference and c.name == "psnr_full")]
        with tqdm(total=len(self.pairs), desc=row, unit="face", disable=None) as bar:

            def save(result: Result) -> None:
                with atomic_path(folder / f"{result.pair.name}.png") as temporary:
                    Image.fromarray(to_pixels(result.restored)).save(temporary)
                bar.update()

            scores, broken = evaluate(restorer, self._read(restorer.config.image_size), columns, self.tools, save)
        self.missing |= broken
        means = {name: mean(values) for name, values in scores.items()} | self._distances(folder)
        self.rows[row] = {
            "file": str(path),
            "sha256": sha256(path),
            "size": restorer.config.image_size,
            "notes": {k: v for k, v in read_notes(path).items() if k != "reports"},
            "bits": _bits(restorer),
            "means": means,
            "judged": {name: sum(v is not None for v in values) for name, values in scores.items()},
            "values": scores,
        }
        if is_reference:
            self.reference = folder

    def _read(self, size: int) -> Iterator[Pair]:
        import torch

        from ..degrade import degrade
        from ..stages.evaluate import Pair
        from .faces import read_square

        def tensor(pixels: Any) -> Any:
            return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

        for seed, (name, (lq, gt)) in enumerate(self.pairs.items()):
            pixels = read_square(lq, size)
            original = None if gt is None else tensor(pixels if gt == lq else read_square(gt, size))
            given = tensor(degrade(pixels, seed) if self.arguments.degrade else pixels)
            reference = tensor(read_square(self.reference / f"{name}.png", size)) if self.reference else None
            yield Pair(name, given * 2 - 1, original, reference)

    def _distances(self, folder: Path) -> dict[str, float | None]:
        from ..metrics import frechet_distance

        found: dict[str, float | None] = {}
        for name, references in self.fids.items():
            if name in self.missing:
                continue
            try:
                found[name] = frechet_distance(folder, references)
            except UsageError as error:
                self.missing[name] = str(error)
        return found

    def _shown(self) -> list[tuple[str, str]]:
        """(name, title) of the table's columns, in the order asked for."""
        from ..stages.evaluate import title

        order = [n for name in self.names for n in (self.fids if name == "fid" and self.fids else (name,))]
        arrows = {c.name: " down" if c.lower_better else " up" for c in self.columns}
        titles = {n: title(n.split()[0]) + n.removeprefix(n.split()[0]) for n in order}
        return [(n, titles[n] + arrows.get(n, " down")) for n in order if n not in self.missing]

    def table(self) -> str:
        """Markdown: a row a model; below it what is missing and why."""
        shown = self._shown()
        lines = ["| model | " + " | ".join(text for _, text in shown) + " |", "|---" * (len(shown) + 1) + "|"]
        for row, values in self.rows.items():
            cells = ["" if (v := values["means"].get(name)) is None else f"{v:.4g}" for name, _ in shown]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        lines += ["", f"{len(self.pairs)} faces."]
        for row, values in self.rows.items():
            few = {n: k for n, k in values["judged"].items() if k < len(self.pairs)}
            lines += [f"{row}: {name} judged on {k} faces, the others show none." for name, k in few.items()]
        alike: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            alike.setdefault(reason, []).append(name)
        lines += [f"Not available: {', '.join(names)}: {reason}" for reason, names in alike.items()]
        return "\n".join(lines)

    def report(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        settings = {k: v for k, v in vars(self.arguments).items() if k not in ("run", "command")}
        return {
            "versions": _versions(),
            "settings": json.loads(json.dumps(settings, default=str)),
            "columns": {c.name: _described(c) for c in self.columns if c.name not in self.missing},
            "unavailable": self.missing,
            "pictures": list(self.pairs),
            "models": self.rows,
        }


def _described(column: Column) -> dict[str, Any]:
    return {"title": column.title, "better": "lower" if column.lower_better else "higher", "by": column.source}


def _bits(restorer: Any) -> dict[str, int]:
    """How many layers have which bits; those in full precision are not counted."""
    from collections import Counter

    from ..nn.swap import quant_layers

    forms = [layer.format for layer in quant_layers(restorer).values()]
    return dict(sorted(Counter(str(f.bits) for f in forms).items()))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__

    found = {"quantface": __version__}
    for package in ("torch", "diffusers", "opencv-python-headless", "pyiqa"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_text(path: Path, text: str) -> None:
    """Write one text file, whole or not at all. Raises WriteError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", "utf-8")
