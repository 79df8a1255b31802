"""Evaluate a restorer: restore degraded faces and compute the metrics of the paper's tables (docs/evaluate.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import QuantFaceError
from ..faces.recognize import FaceRecognizer, identity_degrees, landmark_distance
from ..metrics import BUILTIN_METRICS, Metric, psnr, pyiqa_metric
from ..restorer import RestorerModel
from ..types import Face, Pixels

PAPER = ("clipiqa", "dists", "lpips", "maniqa", "musiq", "niqe", "deg", "lmd", "fid")
"""The paper's columns, in its order; `fid` compares folders and is not computed here."""
_TITLES = {
    "psnr_full": "PSNR to full precision (dB)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "gmsd": "GMSD",
    "lpips": "LPIPS",
    "dists": "DISTS",
    "niqe": "NIQE",
    "musiq": "MUSIQ",
    "maniqa": "MANIQA",
    "clipiqa": "CLIP-IQA",
    "fid": "FID",
    "deg": "Deg. (SFace)",
    "lmd": "LMD (5 points, px of 512)",
}


@dataclass(frozen=True)
class Pair:
    """One face to restore, and what the result is compared with."""

    name: str
    degraded: Tensor  # [3, S, S] in [-1, 1]
    original: Tensor | None = None  # [3, S, S] in 0 to 1
    reference: Tensor | None = None  # the full-precision model's output for it, [3, S, S] in 0 to 1


@dataclass(frozen=True)
class Tools:
    """What metrics need besides the restored images, and why some metrics are unavailable."""

    has_originals: bool = False  # every pair has an original
    has_references: bool = False  # every pair has a reference
    detector: Callable[[Pixels], Sequence[Face]] | None = None
    recognizer: FaceRecognizer | None = None
    parameters: dict[str, Path] = field(default_factory=dict)  # metric -> file of its weights
    reasons: dict[str, str] = field(default_factory=dict)  # column -> why the caller knows it to be unavailable


class Result:
    """A restored face and its pair, as passed to the columns."""

    def __init__(self, pair: Pair, restored: Tensor, tools: Tools) -> None:
        """`restored` is [3, S, S] in 0 to 1, rounded to 8 bits as it would be in a file."""
        self.pair, self.restored, self.tools = pair, restored, tools

    @cached_property
    def faces(self) -> tuple[tuple[Face, Pixels], tuple[Face, Pixels]] | None:
        """(largest face, image [S, S, 3] uint8) of the restored image and the original; None if either has no face."""
        assert self.tools.detector is not None
        assert self.pair.original is not None
        found = []
        for picture in (self.restored, self.pair.original):
            pixels = to_pixels(picture)
            faces = self.tools.detector(pixels)
            if not faces:
                return None
            found.append((max(faces, key=lambda face: face.size), pixels))
        return found[0], found[1]


@dataclass(frozen=True)
class Column:
    """One metric: its column in the table and the function that computes it; None = no score, as without a face."""

    name: str
    title: str
    lower_better: bool
    source: str  # the package or model that computes it
    judge: Callable[[Result], float | None]


def title(name: str) -> str:
    """A column's title in tables; the name itself for metrics without one."""
    return _TITLES.get(name, name)


def make_columns(names: Iterable[str], tools: Tools) -> tuple[list[Column], dict[str, str]]:
    """(columns that can be computed, why the others cannot, by name). This may download weights of pyiqa's metrics."""
    columns, missing = [], {}
    for name in dict.fromkeys(names):
        try:
            columns.append(_column(name, tools))
        except QuantFaceError as error:
            missing[name] = str(error).removeprefix(f"{name} ")
    return columns, missing


def _column(name: str, tools: Tools) -> Column:
    if name in tools.reasons:
        raise QuantFaceError(tools.reasons[name])
    if name == "psnr_full":
        _require(tools.has_references, "needs the full-precision model: name it as the reference")
        return Column(name, title(name), False, "quantface", _to_reference)
    if name in ("deg", "lmd"):
        _require(tools.has_originals, _NO_ORIGINALS)
        _require(tools.detector is not None, "needs a face detector")
        if name == "lmd":
            return Column(name, title(name), True, "YuNet's eyes, nose and mouth corners (OpenCV)", _landmarks)
        _require(tools.recognizer is not None, "needs a face recogniser")
        return Column(name, title(name), True, "SFace (OpenCV)", _identity)
    metric, source = BUILTIN_METRICS.get(name), "quantface"
    if metric is None:
        metric, source = pyiqa_metric(name, tools.parameters.get(name)), "pyiqa"
    _require(tools.has_originals or not metric.compares, _NO_ORIGINALS)
    return Column(name, title(name), metric.lower_better, source, _judge(metric))


_NO_ORIGINALS = "needs the originals: a folder of them (gt), or clean faces to degrade"


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise QuantFaceError(reason)


def _judge(metric: Metric) -> Callable[[Result], float | None]:
    def judge(result: Result) -> float:
        original = result.pair.original if metric.compares else None
        return float(metric(result.restored[None], None if original is None else original[None]))

    return judge


def _to_reference(result: Result) -> float:
    assert result.pair.reference is not None
    return float(psnr(result.restored[None], result.pair.reference[None]))


def _landmarks(result: Result) -> float | None:
    if result.faces is None:
        return None
    (face, pixels), (wanted, _) = result.faces
    return landmark_distance(face, wanted, len(pixels))


def _identity(result: Result) -> float | None:
    assert result.tools.recognizer is not None
    if result.faces is None:
        return None
    a, b = (result.tools.recognizer(pixels, face) for face, pixels in result.faces)
    return identity_degrees(a, b)


@torch.no_grad()
def evaluate(
    restorer: RestorerModel,
    pairs: Iterable[Pair],
    columns: Sequence[Column],
    tools: Tools,
    on_result: Callable[[Result], None] | None = None,
    batch_size: int = 4,
) -> tuple[dict[str, list[float | None]], dict[str, str]]:
    """Returns (scores by column, one per pair in their order; why a column failed, by name). Failed columns have no
    scores.

    Pairs are consumed lazily and not kept. `on_result` receives every result, to save it; what it raises ends the run.
    """
    scores: dict[str, list[float | None]] = {column.name: [] for column in columns}
    broken: dict[str, str] = {}
    for batch in _batches(pairs, batch_size):
        images = torch.stack([pair.degraded for pair in batch]).to(restorer.device)
        restored = ((restorer(images).cpu() / 2 + 0.5) * 255).round() / 255
        for pair, picture in zip(batch, restored, strict=True):
            result = Result(pair, picture, tools)
            if on_result:
                on_result(result)
            for column in columns:
                if column.name in broken:
                    continue
                try:
                    scores[column.name].append(_finite(column.judge(result)))
                except QuantFaceError as error:
                    broken[column.name] = str(error)
    return {name: values for name, values in scores.items() if name not in broken}, broken


def _finite(score: float | None) -> float | None:
    """A score; None for NaN and infinity, which JSON cannot hold, and which would be the mean of all."""
    return score if score is not None and math.isfinite(score) else None


def _batches(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while batch := list(islice(iterator, size)):
        yield batch


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the scores that are not None; None when there are none."""
    judged = [value for value in values if value is not None]
    return sum(judged) / len(judged) if judged else None


def to_pixels(picture: Tensor) -> Pixels:
    """[3, H, W] in 0 to 1 -> [H, W, 3] uint8."""
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy().astype(np.uint8, copy=False)
