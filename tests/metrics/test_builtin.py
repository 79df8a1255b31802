"""Our metrics: what they say of same and different pictures, their gradients, and that they agree with pyiqa's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from quantface_core.degrade import degrade
from quantface_core.errors import ImageError
from quantface_core.metrics import BUILTIN_METRICS, ms_ssim, psnr

ROOT = Path(__file__).resolve().parents[2]


def _unit(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def faces(test_faces: list[Path]) -> tuple[Tensor, Tensor]:
    """Two degraded faces and their originals, [2, 3, 256, 256] each."""
    clean = [np.asarray(Image.open(path)) for path in test_faces[:2]]
    pairs = [(_unit(degrade(face, seed)), _unit(face)) for seed, face in enumerate(clean)]
    degraded, originals = zip(*pairs, strict=True)
    return torch.cat(degraded), torch.cat(originals)


@pytest.mark.parametrize("name", BUILTIN_METRICS)
def test_an_image_scores_best_against_itself(name: str, faces: tuple[Tensor, Tensor]) -> None:
    degraded, originals = faces
    same, other = BUILTIN_METRICS[name](originals, originals), BUILTIN_METRICS[name](degraded, originals)
    assert same.shape == (2,)
    better = same < other if BUILTIN_METRICS[name].lower_better else same > other
    assert better.all()
    ideal = 120.0 if name == "psnr" else float(not BUILTIN_METRICS[name].lower_better)
    torch.testing.assert_close(same, torch.full((2,), ideal), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BUILTIN_METRICS)
def test_gradients_are_finite_and_lead_to_the_reference(name: str, faces: tuple[Tensor, Tensor]) -> None:
    for start in faces:  # the second is the reference itself
        pictures = start.clone().requires_grad_()
        BUILTIN_METRICS[name](pictures, faces[1]).sum().backward()
        assert torch.isfinite(pictures.grad).all()
    pictures = faces[0].clone().requires_grad_()
    BUILTIN_METRICS[name](pictures, faces[1]).sum().backward()
    step = pictures.grad / pictures.grad.abs().max() * (1e-3 if not BUILTIN_METRICS[name].lower_better else -1e-3)
    before, after = (
        BUILTIN_METRICS[name](faces[0], faces[1]).sum(),
        BUILTIN_METRICS[name](faces[0] + step, faces[1]).sum(),
    )
    assert (after < before) if BUILTIN_METRICS[name].lower_better else (after > before)


def test_psnr_is_decibels_of_the_error() -> None:
    black = torch.zeros(1, 3, 8, 8)
    assert float(psnr(black + 0.1, black)) == pytest.approx(20, abs=1e-4)


def test_pictures_too_small_for_five_scales_are_refused() -> None:
    with pytest.raises(ImageError, match="160 pixels"):
        ms_ssim(torch.zeros(1, 3, 160, 160), torch.zeros(1, 3, 160, 160))


# In a process of its own: beside a CPU build of torch, torchvision wants its operators declared before it is imported.
_COMPARED = """
import json, sys, torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from quantface_core.metrics import BUILTIN_METRICS, full_reference, pyiqa_metric
a, b = torch.load(sys.argv[1], weights_only=True)
found = {name: (BUILTIN_METRICS[name](a, b).tolist(), pyiqa_metric(name)(a, b).tolist()) for name in BUILTIN_METRICS}
metric = full_reference("nlpd")
leaf = a.clone().requires_grad_()
metric(leaf, b).sum().backward()
found["gradient"] = [bool(torch.isfinite(leaf.grad).all()), float(leaf.grad.abs().max()), metric.lower_better]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compared(faces: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = os.pathsep.join([str(ROOT), str(ROOT / ".bench"), os.environ.get("PYTHONPATH", "")])
    here = {**os.environ, "PYTHONPATH": path}
    given = tmp_path_factory.mktemp("pictures") / "faces.pt"
    # An odd side too: every halving then pads.
    torch.save((faces[0][:, :, :255, :251], faces[1][:, :, :255, :251]), given)
    done = subprocess.run([sys.executable, "-c", _COMPARED, str(given)], capture_output=True, text=True, env=here)
    if "needs pyiqa" in done.stderr:
        pytest.skip("needs pyiqa: see benchmarks/README.md")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", BUILTIN_METRICS)
def test_builtin_metrics_agree_with_pyiqa(name: str, compared: dict) -> None:
    ours, theirs = compared[name]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_gradients_flow_through_pyiqa(compared: dict) -> None:
    finite, largest, lower_better = compared["gradient"]
    assert finite
    assert largest > 0
    assert lower_better


@pytest.mark.parametrize("name", sorted(BUILTIN_METRICS))
def test_autocast_changes_no_score(faces: tuple[Tensor, Tensor], name: str) -> None:
    plain = BUILTIN_METRICS[name](*faces)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(BUILTIN_METRICS[name](*faces), plain)
