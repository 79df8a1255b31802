"""Restore a folder of degraded faces with several models and judge the results: a table, all numbers, the pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

import torch

from ..faces.detect import FaceDetector
from ..faces.recognize import RECOGNIZER_FILE, RECOGNIZER_REPO, FaceRecognizer
from ..io.atomic import atomic_path
from ..io.checkpoint import load_restorer
from ..io.models import detector_path, models_folder
from ..stages.evaluate import PAPER, Tools
from .callbacks import PipelineCallbacks
from .jobs import distinct_names
from .pairs import find_pairs
from .scorecard import Row, Scorecard

_BUILTIN = ("psnr_full", "psnr", "ssim", "ms_ssim")
_ALL = "all"
_NIQE_FILES = ("niqe_modelparameters.mat", "niqe_modelparameters_from_basicsr.mat")
_NAMED = 5  # files in a message


@dataclass(frozen=True)
class EvaluateRequest:
    """Which models restore which faces, and what the results are judged by."""

    models: Mapping[str, Path]  # the files of all models, the reference's too, by what they are called: a row each
    lq: Path  # folder of aligned, degraded faces
    output: Path  # folder for evaluation.json, table.md and the pictures
    device: torch.device
    gt: Path | None = None  # folder of their originals, of the same names
    degrade: bool = False  # the faces of `lq` are clean: degrade them with seeds, and hold the results against them
    reference: str | None = None  # which of them is of full precision: the first row, to whose pictures PSNR is told
    metrics: tuple[str, ...] = (_ALL,)
    fid_reference: tuple[Path, ...] = ()  # folders of pictures, or the name of a statistic that pyiqa has
    count: int | None = None  # faces at most; None = all

    def settings(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        table = {field.name: getattr(self, field.name) for field in fields(self)} | {"models": list(self.models)}
        return {name: _plain(value) for name, value in table.items()}


@dataclass(frozen=True, eq=False)
class EvaluateResult:
    """What is in the output folder too."""

    table: str  # Markdown
    report: Mapping[str, Any]  # ready for JSON


def evaluate(request: EvaluateRequest, callbacks: PipelineCallbacks | None = None) -> EvaluateResult:
    """Restore, judge and write. A metric that cannot be had here is named with the reason. Raises QuantFaceError."""
    callbacks = callbacks or PipelineCallbacks()
    pairs, unpaired = find_pairs(request.lq, request.gt, request.degrade, request.count)
    if unpaired:
        shown = ", ".join(unpaired[:_NAMED]) + (" ..." if len(unpaired) > _NAMED else "")
        callbacks.notify(f"warning: {len(unpaired)} files have no partner and are left out: {shown}")
    names = [name for given in request.metrics for name in ((*_BUILTIN, *PAPER) if given == _ALL else (given,))]
    card = Scorecard(pairs, request.degrade, names, request.fid_reference, _tools(request))
    for row in _rows(request):
        _judge(row, request.device, card, callbacks)
    report = {"settings": request.settings(), **card.report(), "unpaired": unpaired}
    _write_text(request.output / "evaluation.json", json.dumps(report, indent=2))
    _write_text(request.output / "table.md", card.table())
    return EvaluateResult(card.table(), report)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _rows(request: EvaluateRequest) -> list[Row]:
    """A row a model, the reference's first, each with a folder of its own below the output."""
    models = sorted(request.models.items(), key=lambda model: model[0] != request.reference)
    titles = [_row_name(name, request.models) for name, _ in models]
    # Where a name is a path, none of its separators, nor a drive's colon, may lead the pictures elsewhere.
    folders = distinct_names(PurePath(re.sub(r"[^\w.-]", "_", title)) for title in titles)
    return [
        Row(title, path, request.output / "restored" / folder, name == request.reference)
        for title, (name, path), (folder, _) in zip(titles, models, folders, strict=True)
    ]


def _judge(row: Row, device: torch.device, card: Scorecard, callbacks: PipelineCallbacks) -> None:
    """Add one model's row; the model goes with this call, for two at a time may be more than the memory holds."""
    restorer = load_restorer(row.file, device)
    with callbacks.cancellable(restorer):
        card.add(row, restorer, callbacks)


def _row_name(name: str, chosen: Collection[str]) -> str:
    """A model's short name; its path where two would be the same."""
    short = Path(name).name.removesuffix(".safetensors")
    return short if sum(Path(n).name.removesuffix(".safetensors") == short for n in chosen) == 1 else name


def _tools(request: EvaluateRequest) -> Tools:
    niqe = next((models_folder() / name for name in _NIQE_FILES if (models_folder() / name).is_file()), None)
    recognizer = models_folder() / RECOGNIZER_FILE
    reasons = {}
    if not recognizer.is_file():
        advice = f"download {RECOGNIZER_FILE} from huggingface.co/{RECOGNIZER_REPO} into {models_folder()}"
        reasons["deg"] = f"needs a face recogniser: {advice}"
    if not request.fid_reference:
        reasons["fid"] = "needs pictures to compare with: --fid-reference DIR"
    return Tools(
        has_originals=request.degrade or request.gt is not None,
        has_references=request.reference is not None,
        detector=FaceDetector(detector_path()),
        recognizer=FaceRecognizer(recognizer) if recognizer.is_file() else None,
        parameters={"niqe": niqe} if niqe else {},
        reasons=reasons,
    )


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", "utf-8")
