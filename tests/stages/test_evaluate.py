"""Columns and scores: what is judged, what is missing and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.faces.detect import FaceDetector
from quantface_core.faces.recognize import FaceRecognizer
from quantface_core.io.photos import read_photo
from quantface_core.metrics import Metric, psnr
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages import evaluate as stage
from quantface_core.stages.evaluate import Column, Pair, Result, Tools, evaluate, make_columns, mean


@pytest.fixture(scope="module")
def face(test_faces: list[Path]) -> Tensor:
    return torch.tensor(read_photo(test_faces[0]).pixels).permute(2, 0, 1).float() / 255


def _pairs(count: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(count, 3, 64, 64, generator=generator)
    return [Pair(f"face{i}", p * 2 - 1, original=p, reference=p.flip(2)) for i, p in enumerate(pictures)]


def test_scores_follow_the_pictures_in_order_whatever_the_batch(tiny: OneStepRestorer) -> None:
    tools = Tools(has_originals=True, has_references=True)
    columns, missing = make_columns(["psnr", "psnr_full"], tools)
    assert missing == {}
    seen: list[Result] = []
    scores, broken = evaluate(tiny, iter(_pairs(3)), columns, tools, seen.append, batch_size=2)
    assert broken == {}
    assert [result.pair.name for result in seen] == ["face0", "face1", "face2"]
    for name, other in (("psnr", "original"), ("psnr_full", "reference")):
        wanted = [float(psnr(r.restored[None], getattr(r.pair, other)[None])) for r in seen]
        assert scores[name] == pytest.approx(wanted)
    again, _ = evaluate(tiny, iter(_pairs(3)), columns, tools, batch_size=3)
    assert again["psnr"] == pytest.approx(scores["psnr"], abs=1e-3)
    # As a file holds it: 8 bits.
    torch.testing.assert_close(seen[0].restored * 255, (seen[0].restored * 255).round(), atol=1e-4, rtol=0)


def test_every_missing_column_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, parameters: Path | None = None) -> None:
        raise UsageError(f"{name} needs pyiqa")

    monkeypatch.setattr(stage, "pyiqa_metric", refuse)
    tools = Tools(reasons={"fid": "needs pictures"})
    columns, missing = make_columns(["psnr_full", "psnr", "deg", "lmd", "musiq", "fid", "psnr"], tools)
    assert columns == []
    assert {name: reason.split(":")[0] for name, reason in missing.items()} == {
        "psnr_full": "needs the full-precision model",
        "psnr": "needs the originals",
        "deg": "needs the originals",
        "lmd": "needs the originals",
        "musiq": "needs pyiqa",
        "fid": "needs pictures",
    }


def test_a_metric_of_one_picture_needs_no_original_and_gets_its_parameters(
    monkeypatch: pytest.MonkeyPatch, tiny: OneStepRestorer
) -> None:
    brightness = Metric("niqe", lambda pictures: pictures.mean((1, 2, 3)), lower_better=True, compares=False)
    given = []
    monkeypatch.setattr(stage, "pyiqa_metric", lambda name, file=None: given.append((name, file)) or brightness)
    tools = Tools(parameters={"niqe": Path("niqe.mat")})
    columns, _ = make_columns(["niqe"], tools)
    assert given == [("niqe", Path("niqe.mat"))]
    assert columns[0].lower_better
    seen: list[Result] = []
    pairs = [Pair(pair.name, pair.degraded) for pair in _pairs(2)]
    scores, _ = evaluate(tiny, pairs, columns, tools, seen.append)
    assert scores["niqe"] == pytest.approx([float(r.restored.mean()) for r in seen])


def test_a_column_that_breaks_off_is_named_and_the_rest_goes_on(tiny: OneStepRestorer) -> None:
    calls = []

    def breaks(result: Result) -> float:
        calls.append(result.pair.name)
        if len(calls) == 2:
            raise QuantFaceError("no more")
        return 1.0

    tools = Tools(has_originals=True)
    columns, _ = make_columns(["psnr", "ms_ssim"], tools)
    columns.append(Column("mine", "Mine", False, "me", breaks))
    scores, broken = evaluate(tiny, _pairs(3), columns, tools)
    assert set(scores) == {"psnr"}
    assert set(broken) == {"ms_ssim", "mine"}
    assert "160 pixels" in broken["ms_ssim"]
    assert len(calls) == 2


def test_landmarks_and_identity_follow_a_moved_face(
    face: Tensor, detector: FaceDetector, recognizer_file: Path
) -> None:
    tools = Tools(has_originals=True, detector=detector, recognizer=FaceRecognizer(recognizer_file))
    columns, missing = make_columns(["deg", "lmd"], tools)
    assert missing == {}
    deg, lmd = columns

    def judged(column: Column, restored: Tensor) -> float | None:
        return column.judge(Result(Pair("a", face * 2 - 1, original=face), restored, tools))

    assert judged(lmd, face) == 0
    assert judged(deg, face) == pytest.approx(0, abs=1e-4)
    moved = F.pad(face[None], (8, 0, 0, 0), mode="replicate")[0, :, :, :-8]
    # 8 of 256 pixels are 16 of 512; YuNet's landmarks waver by some 5 more.
    assert judged(lmd, moved) == pytest.approx(16, abs=8)
    dark = face.clone()
    dark[:, :, 128:] *= 0.4
    assert judged(deg, dark) > 5
    nothing = torch.zeros_like(face)
    assert judged(lmd, nothing) is None
    assert judged(deg, nothing) is None


def test_means_are_over_what_was_judged() -> None:
    assert mean([1.0, None, 2.0]) == 1.5
    assert mean([None]) is None
