"""`quantface evaluate` as a user runs it, on a tiny restorer and real faces."""

from __future__ import annotations

import copy
import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.io.checksum import sha256
from quantface_core.metrics import BUILTIN_METRICS, Metric
from quantface_core.pipelines.evaluate import EvaluateRequest, evaluate
from quantface_core.quant.quantize import quantize
from quantface_core.restorer import OneStepRestorer
from tests.conftest import FAST


@pytest.fixture(scope="module")
def model(tiny: OneStepRestorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_restorer(tiny, path)
    return path


@pytest.fixture
def faces(test_faces: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for path in test_faces[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "models"))


def test_a_row_a_model_with_all_numbers_beside_it(
    model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.safetensors"
    other.write_bytes(model.read_bytes())
    command = ["evaluate", str(other), "--reference", str(model), "--lq", str(faces), "--degrade", "-o", str(out)]
    assert main([*command, "--metrics", "psnr_full", "psnr", "ms_ssim", "lmd", "deg", "fid"]) == 0
    report = json.loads((out / "evaluation.json").read_text())
    assert list(report["models"]) == ["tiny", "other"]
    row = report["models"]["other"]
    assert row["sha256"] == sha256(other)
    assert row["means"]["psnr_full"] == 120  # the same model, the same pictures
    assert "psnr_full" not in report["models"]["tiny"]["means"]
    assert row["means"]["psnr"] == pytest.approx(np.mean(row["values"]["psnr"]))
    assert report["pictures"] == sorted(path.stem for path in faces.iterdir())
    assert row["judged"]["lmd"] == 0  # random weights draw no face
    assert row["means"]["lmd"] is None
    assert set(report["unavailable"]) == {"ms_ssim", "deg", "fid"}
    assert "face_recognition_sface" in report["unavailable"]["deg"]
    assert report["versions"]["quantface"]
    assert report["settings"]["degrade"] is True
    restored = sorted((out / "restored" / "other").iterdir())
    assert [path.stem for path in restored] == report["pictures"]
    assert np.asarray(Image.open(restored[0])).shape == (64, 64, 3)
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert "| other | 120 |" in table
    assert "Not available: ms_ssim: MS-SSIM needs more than 160 pixels" in table
    assert "lmd measured on 0 faces" in table


def test_the_same_command_gives_the_same_numbers(model: Path, faces: Path, tmp_path: Path) -> None:
    reports = []
    for out in (tmp_path / "a", tmp_path / "b"):
        assert main(["evaluate", str(model), "--lq", str(faces), "--degrade", "--metrics", "psnr", "-o", str(out)]) == 0
        reports.append(json.loads((out / "evaluation.json").read_text())["models"])
    assert reports[0] == reports[1]


def test_originals_of_another_folder_are_paired_by_name(
    model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lq, out = tmp_path / "lq", tmp_path / "out"
    lq.mkdir()
    names = sorted(path.stem for path in faces.iterdir())
    for path in faces.iterdir():
        if path.stem != names[0]:
            Image.open(path).resize((32, 32)).save(lq / f"{path.stem}.png")
    assert main(["evaluate", str(model), "--lq", str(lq), "--gt", str(faces), "--metrics", "psnr", "-o", str(out)]) == 0
    report = json.loads((out / "evaluation.json").read_text())
    assert report["pictures"] == names[1:]
    assert [Path(path).stem for path in report["unpaired"]] == names[:1]
    assert "no partner" in capsys.readouterr().err


def test_fid_is_of_the_pictures_written_to_each_folder_given(
    model: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "quantface_core.pipelines.scorecard.frechet_distance", lambda a, b: float(len(list(a.iterdir())))
    )
    out = tmp_path / "out"
    command = ["evaluate", str(model), "--lq", str(faces), "--metrics", "fid", "-o", str(out)]
    assert main([*command, "--fid-reference", "FFHQ", "--fid-reference", str(faces)]) == 0
    means = json.loads((out / "evaluation.json").read_text())["models"]["tiny"]["means"]
    assert means == {"fid FFHQ": 3.0, "fid faces": 3.0}
    assert "| FID FFHQ down | FID faces down |" in (out / "table.md").read_text()
    assert main([*command, "--fid-reference", str(faces), "--count", "2"]) == 0  # the third's picture still lies there
    assert json.loads((out / "evaluation.json").read_text())["models"]["tiny"]["means"] == {"fid faces": 2.0}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "faces").symlink_to(faces)
    assert main([*command, "--fid-reference", str(faces), "--fid-reference", str(tmp_path / "other" / "faces")]) == 0
    assert len(json.loads((out / "evaluation.json").read_text())["models"]["tiny"]["means"]) == 2  # of one name


def test_each_model_has_a_folder_below_the_output_and_is_alone_in_memory(
    model: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where names are paths, of Windows too, that differ in their separators alone."""
    held: list[weakref.ref[Any]] = []

    def load(*given: Any) -> OneStepRestorer:
        gc.collect()
        assert not any(restorer() for restorer in held)
        held.append(weakref.ref(restorer := load_restorer(*given)))
        return restorer

    monkeypatch.setattr("quantface_core.pipelines.evaluate.load_restorer", load)
    paths = ["x_m/m_m", "x/m/m_m", "C:\\x\\m", str(tmp_path / "C" / "m_m")]
    out = tmp_path / "out"
    request = EvaluateRequest(
        dict.fromkeys(paths, model), faces, out, torch.device("cpu"), metrics=("psnr_full",), reference=paths[0]
    )
    assert set(evaluate(request).report["models"]) == set(paths)
    folders = list((out / "restored").iterdir())
    assert [len(list(folder.glob("*.png"))) for folder in folders] == [3] * len(paths)
    assert {"x_m_m_m", "x_m_m_m_2"} < {folder.name for folder in folders}


def test_an_image_that_cannot_be_read_costs_its_face_alone(
    model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found before the work, not after hours of it."""
    good = sorted(path.stem for path in faces.iterdir())
    whole = next(faces.iterdir()).read_bytes()
    (faces / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (64, 96)).save(faces / "tall.png")
    command = ["evaluate", str(model), "--lq", str(faces), "--degrade", "-o", str(tmp_path / "out")]
    assert main([*command, "--metrics", "psnr", "msssim"]) == 0
    told = capsys.readouterr().err
    assert "2 faces cannot be used and are left out" in told
    assert "tall.png is 64x96" in told
    assert "warning: msssim is not available" in told
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["pictures"] == good
    assert "cut.jpg" in report["unreadable"][0]
    for path in faces.iterdir():
        path.write_bytes(b"no image")
    assert main([*command, "--metrics", "psnr"]) == 1


def test_a_model_that_fails_leaves_the_rows_before_it(model: Path, faces: Path, tmp_path: Path) -> None:
    (broken := tmp_path / "broken.safetensors").write_bytes(b"half a download")
    out = tmp_path / "out"
    assert main(["evaluate", str(model), str(broken), "--lq", str(faces), "--degrade", "-o", str(out)]) == 1
    assert list(json.loads((out / "evaluation.json").read_text())["models"]) == ["tiny"]
    assert "| tiny |" in (out / "table.md").read_text()


def test_a_low_bit_reference_is_refused(
    tiny: OneStepRestorer, model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its column is the distance to full precision."""
    low = copy.deepcopy(tiny)
    quantize(low, [torch.zeros(1, 3, 64, 64)], FAST, include=["unet.conv_in"])
    save_restorer(low, tmp_path / "low.safetensors")
    command = ["evaluate", str(model), "--reference", str(tmp_path / "low.safetensors"), "--lq", str(faces)]
    assert main([*command, "--metrics", "psnr_full", "-o", str(tmp_path / "out")]) == 2
    assert "reference: low is quantized already: give its full-precision original" in capsys.readouterr().err


def test_a_score_that_is_no_number_is_none_in_the_report(
    model: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is not JSON, and one would make the mean NaN."""
    scores = iter((30.0, float("nan"), 20.0))
    metric = Metric("psnr", lambda *_: torch.tensor([next(scores)]))
    monkeypatch.setitem(BUILTIN_METRICS, "psnr", metric)
    out = tmp_path / "out"
    command = ["evaluate", str(model), "--lq", str(faces), "--degrade", "--metrics", "psnr", "-o", str(out)]
    assert main(command) == 0
    row = json.loads((out / "evaluation.json").read_text())["models"]["tiny"]
    assert row["values"]["psnr"] == [30.0, None, 20.0]
    assert row["means"]["psnr"] == 25
    assert "psnr measured on 2 faces; the others have no score." in (out / "table.md").read_text()


def test_misuse_is_told(model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["evaluate", str(model), "--lq", str(tmp_path / "nowhere"), "-o", out]) == 2
    assert main(["evaluate", "quantface-mimi", "--lq", str(faces), "-o", out]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--metrics", "lpipz"], "lpipz: is not built in"), (["--fid-reference", "gone"], "fid_reference gone: no such")],
)
def test_what_cannot_be_measured_is_told_before_a_model_is_fetched(
    options: list[str],
    message: str,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert main(["evaluate", "no-such-model", "--lq", str(faces), *options, "-o", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_table_of_everything_names_what_is_missing_once_a_reason(
    model: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert main(["evaluate", str(model), "--lq", str(faces), "--count", "1", "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    missing = [line for line in text.splitlines() if line.startswith("Not available")]
    assert sum("pyiqa" in line for line in missing) == 1
    for name in ("psnr_full", "psnr", "ssim", "ms_ssim", "clipiqa", "dists", "lpips", "maniqa", "musiq", "niqe", "deg"):
        assert any(f" {name}:" in line or f" {name}," in line for line in missing), name
