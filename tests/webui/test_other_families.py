"""The host's own face restorers, restored with by the extension: listed, their fidelity shown, over the API."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core import load_restorer, save_restorer
from tests.published import FILES

PLACES = {"GFPGAN": "GFPGAN", "CodeFormer": "Codeformer"}


@pytest.fixture
def names(webui: SimpleNamespace, published: Path) -> list[str]:
    """What the menu calls them, in the host's folders beside what else is there."""
    for architecture, place in PLACES.items():
        folder = webui.models.parent / place
        folder.mkdir()
        (folder / FILES[architecture]).symlink_to(published / FILES[architecture])
        torch.save({"weight": torch.zeros(1)}, folder / "detection_Resnet50_Final.pth")
    return [f"{place}/{FILES[architecture]}" for architecture, place in PLACES.items()]


def test_the_menu_lists_them_alone(names: list[str], script: Any) -> None:
    from quantface_webui.restore import choices

    assert [name for name in choices() if name.endswith(".pth")] == names


def test_they_may_be_in_subfolders(names: list[str], webui: SimpleNamespace, script: Any) -> None:
    from quantface_webui import host

    folder = webui.models.parent / "GFPGAN"
    (folder / "older ones").mkdir()
    (folder / "GFPGANv1.4.pth").rename(folder / "older ones" / "GFPGANv1.4.pth")
    assert host.model_files() == ["GFPGAN/older ones/GFPGANv1.4.pth", names[1]]
    assert host.model_file("GFPGAN/older ones/GFPGANv1.4.pth") is not None


def test_other_folders_may_be_named(
    names: list[str], webui: SimpleNamespace, script: Any, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantface_webui import host

    assert host.model_file("GFPGAN/gone.pth") is None
    assert host.model_file("GFPGAN/../Codeformer/codeformer.pth") is None
    assert host.model_file("quantface/GFPGANv1.4.pth") is None
    monkeypatch.setattr(webui.shared.cmd_opts, "gfpgan_models_path", str(published), raising=False)
    assert host.model_file(names[0]) == published / FILES["GFPGAN"]
    assert f"GFPGAN/{FILES['CodeFormer']}" in host.model_files()  # whatever is in it


def test_fidelity_is_shown_where_a_model_has_it(
    names: list[str], webui: SimpleNamespace, extras: Any, published: Path
) -> None:
    save_restorer(load_restorer(published / FILES["CodeFormer"]), webui.models / "mine.safetensors")
    model = extras.controls["model"]
    (shown,) = [fn for fn, _, outputs in model.handlers if outputs == [extras.controls["fidelity"]]]
    visible = [shown(name)["visible"] for name in (*names, "mine.safetensors", "quantface-mini-w4a4 (bundled)", None)]
    assert visible == [False, True, True, False, False]


@pytest.mark.parametrize("place", PLACES.values())
def test_the_api_restores_with_them(names: list[str], script: Any, astronaut: np.ndarray, place: str) -> None:
    from quantface_webui import api

    file = io.BytesIO()
    Image.fromarray(astronaut).save(file, "PNG")
    request = {"image": base64.b64encode(file.getvalue()).decode(), "strength": 1}
    request["model"] = next(name for name in names if name.startswith(place))
    answers = [api.answer({**request, "fidelity": fidelity}) for fidelity in (0, 1)]
    pictures = [api.decode(answer["image"]).pixels.astype(int) for answer in answers]
    assert answers[0]["restored"] == [0]
    assert np.abs(pictures[0] - astronaut)[30:190, 150:290].mean() > 3
    assert np.array_equal(*pictures) == (place == "GFPGAN")
    assert ["QuantFace fidelity" in answer["info"] for answer in answers] == [place == "Codeformer"] * 2
