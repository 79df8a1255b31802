"""Restore a folder of degraded faces with several models and evaluate the results: a table, all values, the images."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

import torch

from ..errors import ImageError, UsageError, first_few
from ..faces.detect import FaceDetector
from ..faces.recognize import RECOGNIZER_FILE, RECOGNIZER_REPO, FaceRecognizer
from ..io.atomic import write_text
from ..io.catalogue import models_folder
from ..io.checkpoint import load_restorer
from ..io.models import detector_path
from ..metrics import FFHQ
from ..stages.evaluate import PAPER, Tools
from .callbacks import PipelineCallbacks
from .faces import read_aligned
from .models import LoadedModel, require_full_precision
from .pairs import Files, find_pairs
from .result_names import distinct_names
from .scorecard import Row, Scorecard

_BUILTIN = ("psnr_full", "psnr", "ssim", "ms_ssim")
_ALL = "all"
_NIQE_FILES = ("niqe_modelparameters.mat", "niqe_modelparameters_from_basicsr.mat")
_NAMED = 5  # files listed in a message


@dataclass(frozen=True)
class EvaluateRequest:
    """Which models restore which faces, and how the results are evaluated."""

    models: Mapping[str, Path]  # the files of all models, the reference included, by name: a row each
    lq: Path  # folder of aligned, degraded faces
    output: Path  # folder for evaluation.json, table.md and the images
    device: torch.device
    gt: Path | None = None  # folder of their originals, with the same names
    degrade: bool = False  # the faces in `lq` are clean: degrade them with seeds, and compare results with them
    reference: str | None = None  # the full-precision one: the first row, to whose images psnr_full compares
    metrics: tuple[str, ...] = (_ALL,)
    fid_reference: tuple[Path, ...] = ()  # folders of images, or names of pyiqa's statistics
    count: int | None = None  # faces at most; None = all

    def settings(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        table = {field.name: getattr(self, field.name) for field in fields(self)} | {"models": list(self.models)}
        return {name: _plain(value) for name, value in table.items()}


@dataclass(frozen=True, eq=False)
class EvaluateResult:
    """The result, which is in the output folder too."""

    table: str  # Markdown
    report: Mapping[str, Any]  # ready for JSON


def check_evaluate(request: EvaluateRequest) -> None:
    """Raise UsageError before the work for missing pairs or references, and for metrics none of which is available.

    `models` are not looked at.
    """
    find_pairs(request.lq, request.gt, request.degrade, request.count)
    for folder in request.fid_reference:
        if str(folder) != FFHQ and not folder.is_dir():
            raise UsageError(f"fid_reference {folder}: no such folder")
    card = _scorecard(request, {})
    if _ALL not in request.metrics and not card.columns and not card.fids:
        raise UsageError("; ".join(f"{name}: {reason}" for name, reason in card.missing.items()))


def _scorecard(request: EvaluateRequest, pairs: Mapping[str, Files]) -> Scorecard:
    """A table without rows yet."""
    names = [name for given in request.metrics for name in ((*_BUILTIN, *PAPER) if given == _ALL else (given,))]
    return Scorecard(pairs, request.degrade, names, request.fid_reference, _tools(request))


def evaluate(request: EvaluateRequest, callbacks: PipelineCallbacks | None = None) -> EvaluateResult:
    """Restore, evaluate and write, after each model: what fails later leaves the rows before it.

    A metric that is not available is listed with the reason, a face that cannot be read is left out. Raises
    QuantFaceError.
    """
    callbacks = callbacks or PipelineCallbacks()
    pairs, unpaired = find_pairs(request.lq, request.gt, request.degrade, request.count)
    if unpaired:
        shown = first_few(unpaired, _NAMED)
        callbacks.notify(f"warning: {len(unpaired)} files have no partner and are left out: {shown}")
    pairs, unreadable = _usable(pairs, callbacks)
    card = _scorecard(request, pairs)
    for name in request.metrics:  # named, and not just part of all
        if name in card.missing:
            callbacks.notify(f"warning: {name} is not available: {card.missing[name]}")
    report: dict[str, Any] = {}
    for row in _rows(request):
        _judge(row, request.device, card, callbacks)
        report = {"settings": request.settings(), **card.report(), "unpaired": unpaired, "unreadable": unreadable}
        write_text(request.output / "evaluation.json", json.dumps(report, indent=2) + "\n")
        write_text(request.output / "table.md", card.table() + "\n")
    return EvaluateResult(card.table(), report)


def _usable(pairs: Mapping[str, Files], callbacks: PipelineCallbacks) -> tuple[dict[str, Files], list[str]]:
    """The pairs whose images can be read, and why the others cannot: found before hours of work, the same for all rows.

    Raises ImageError when none can.
    """
    usable, reasons = {}, []
    report = callbacks.stage("read", "face")
    for done, (name, files) in enumerate(pairs.items(), 1):
        callbacks.check()
        try:
            for path in filter(None, dict.fromkeys(files)):
                read_aligned(path, 1)
        except ImageError as error:
            reasons.append(str(error))
        else:
            usable[name] = files
        report(done, len(pairs))
    if reasons:
        callbacks.notify(f"warning: {len(reasons)} faces cannot be used and are left out: {first_few(reasons, _NAMED)}")
    if not usable:
        raise ImageError(reasons[0])
    return usable, reasons


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _rows(request: EvaluateRequest) -> list[Row]:
    """One row per model, the reference's first, each with a folder of its own below the output."""
    models = sorted(request.models.items(), key=lambda model: model[0] != request.reference)
    titles = [_row_name(name, request.models) for name, _ in models]
    # A name may be a path: neither separators, nor a drive's colon, nor dots may lead the images elsewhere.
    folders = distinct_names(PurePath(re.sub(r"[^\w.-]", "_", title).strip(".") or "model") for title in titles)
    return [
        Row(title, path, request.output / "restored" / folder, name == request.reference)
        for title, (name, path), (folder, _) in zip(titles, models, folders, strict=True)
    ]


def _judge(row: Row, device: torch.device, card: Scorecard, callbacks: PipelineCallbacks) -> None:
    """Add one model's row; the model is freed on return, as two at a time may not fit in memory."""
    restorer = load_restorer(row.file, device)
    if row.is_reference:
        require_full_precision(LoadedModel(f"reference: {row.name}", restorer))
    with callbacks.cancellable(restorer):
        card.add(row, restorer, callbacks)


def _row_name(name: str, chosen: Collection[str]) -> str:
    """A model's short name; its full name where two would be the same."""
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
        reasons["fid"] = "needs images to compare with: give a fid_reference"
    return Tools(
        has_originals=request.degrade or request.gt is not None,
        has_references=request.reference is not None,
        detector=FaceDetector(detector_path()),
        recognizer=FaceRecognizer(recognizer) if recognizer.is_file() else None,
        parameters={"niqe": niqe} if niqe else {},
        reasons=reasons,
    )
