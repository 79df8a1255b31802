"""Metrics by name, against a stand-in for pyiqa: made once, announced, frozen, refused clearly."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.metrics import Metric, by_name, frechet_distance, full_reference, gmsd, pyiqa_metric


class _Model(nn.Module):
    """A weighted squared difference, or one picture's mean."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.metric_mode, self.lower_better = mode, mode == "FR"

    def forward(self, pictures: Any, references: Any = None, **_: Any) -> Any:
        if isinstance(pictures, str):
            return float(len(list(Path(pictures).iterdir())))
        assert pictures.shape[-1] >= 4, "picture too small"
        return self.weight * (pictures if references is None else (pictures - references).square()).mean((1, 2, 3))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict]]]:
    """What the stand-in was asked to make."""
    calls: list[tuple[str, dict]] = []
    modes = {"lpips": "FR", "psnry": "FR", "odd": "FR", "niqe": "NR", "fid": "NR"}

    def create(name: str, **options: Any) -> _Model:
        calls.append((name, options))
        if name == "odd":
            raise OSError("no network\nand a long story")
        pyiqa.latest = _Model(modes[name])
        return pyiqa.latest

    pyiqa = SimpleNamespace(create_metric=create, list_models=lambda: list(modes), latest=None)
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    for cached in (pyiqa_metric, by_name._fid):
        cached.cache_clear()
    yield calls
    for cached in (pyiqa_metric, by_name._fid):
        cached.cache_clear()


def _pictures(value: float, side: int = 8) -> Tensor:
    return torch.full((2, 3, side, side), value)


def test_builtin_metrics_need_no_pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert full_reference("gmsd") == Metric("gmsd", gmsd, lower_better=True)
    pyiqa_metric.cache_clear()
    with pytest.raises(UsageError, match=r"lpips needs pyiqa.*pip install pyiqa.*commercial.*ms_ssim"):
        full_reference("lpips")


def test_a_metric_is_created_once_and_differentiates_only_images(made: list) -> None:
    metric = full_reference("lpips")
    assert full_reference("lpips") is metric
    assert made == [("lpips", {"as_loss": True, "loss_reduction": "none"})]
    assert metric.lower_better
    pictures = _pictures(0.5).requires_grad_()
    scores = metric(pictures, _pictures(0.25))
    torch.testing.assert_close(scores, torch.full((2,), 0.125))
    scores.sum().backward()
    assert pictures.grad.abs().min() > 0
    assert sys.modules["pyiqa"].latest.weight.grad is None


def test_licence_and_size_are_announced_before_a_download(made: list, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pyiqa_metric("psnry")
        assert not caplog.messages  # nothing to download
        pyiqa_metric("lpips")
        pyiqa_metric("lpips")
    assert len(caplog.messages) == 1
    assert all(word in caplog.text for word in ("lpips", "Noncommercial", "CC BY-NC-SA", "244 MB", "torch"))


def test_a_parameter_file_replaces_the_download(made: list, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pyiqa_metric("niqe", Path("niqe.mat"))
    assert made[0][1]["pretrained_model_path"] == "niqe.mat"
    assert not caplog.messages


@pytest.mark.usefixtures("made")
def test_unusable_names_and_images_are_refused_with_advice() -> None:
    with pytest.raises(UsageError, match="did you mean lpips"):
        full_reference("lpipz")
    with pytest.raises(UsageError, match="a single image"):
        full_reference("niqe")
    with pytest.raises(UsageError, match=r"cannot create odd: no network$"):
        full_reference("odd")
    with pytest.raises(QuantFaceError, match=r"lpips fails.*too small"):
        full_reference("lpips")(_pictures(0, side=2), _pictures(0, side=2))


@pytest.mark.parametrize(("name", "message"), [("lpipz", "did you mean lpips"), ("lpips", "lpips needs pyiqa")])
def test_without_pyiqa_misspelt_names_get_a_suggestion(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    pyiqa_metric.cache_clear()
    with pytest.raises(UsageError, match=message):
        full_reference(name)


@pytest.mark.usefixtures("made")
def test_frechet_distance_is_of_folders(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"")
    assert frechet_distance(tmp_path, tmp_path) == 1.0
    with pytest.raises(UsageError, match="fid to"):
        frechet_distance(tmp_path / "nowhere", tmp_path)
