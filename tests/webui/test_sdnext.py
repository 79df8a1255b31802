"""What SD.Next lacks or does in another way: no Restore faces, its own logins, one device, Stop forgotten."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.webui.standin import fake
from tests.webui.test_extras import picture, values


class _ReportedError(ValueError):
    """The host's: it reports one in one line."""


@pytest.fixture
def sdnext(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stand-in, as SD.Next has its parts; `log` has what its console says."""
    log: list[tuple[str, bool]] = []
    monkeypatch.delitem(sys.modules, "modules.face_restoration")
    monkeypatch.delattr(webui.modules, "face_restoration")
    monkeypatch.delattr(webui.shared, "face_restorers")
    errors = fake(
        "modules.errors",
        log=SimpleNamespace(error=lambda message, exc_info=False: log.append((message, exc_info))),
        ValidationError=_ReportedError,
    )
    devices = fake("modules.devices", device=torch.device("cpu"), torch_gc=lambda: None)
    models = fake("modules.sd_models", model_data=webui.model_data)
    for module in (errors, devices, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(webui.modules, module.__name__.partition(".")[2], module)
    webui.log = log
    return webui


@pytest.fixture
def extras(sdnext: SimpleNamespace, script: Any) -> Any:
    made = script.QuantFaceExtras()
    made.controls = made.ui()
    return made


def test_it_loads_without_what_restores_generated_faces(sdnext: SimpleNamespace) -> None:
    script = sdnext.load()
    assert set(sdnext.callbacks) == {"on_after_component", "on_app_started", "on_script_unloaded"}
    assert script.QuantFaceInfotext().show(False) is False
    assert script.QuantFaceExtras().ui()
    assert not sdnext.log


def test_its_own_routes_guard_ours(sdnext: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="needs fastapi")
    added: list[str] = []
    api = SimpleNamespace(add_api_route=lambda path, route, **options: added.append(path))
    monkeypatch.setattr(sdnext.shared, "api", api, raising=False)
    sdnext.load()
    sdnext.callbacks["on_app_started"][0](None, None)
    assert added == ["/quantface/restore", "/quantface/models"]


def test_faces_are_the_librarys(extras: Any, model: str, astronaut: np.ndarray, expected: np.ndarray) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model=model, automatic=False))
    assert np.array_equal(np.array(pp.image), expected)


def test_a_wrong_setting_is_reported(extras: Any, sdnext: SimpleNamespace, astronaut: np.ndarray) -> None:
    pp = picture(Image.fromarray(astronaut))
    extras.process(pp, **values(extras, model="gone"))
    [(message, with_traceback)] = sdnext.log
    assert message.startswith("QuantFace: no model 'gone'")
    assert not with_traceback


def test_stop_ends_its_run(extras: Any, sdnext: SimpleNamespace, model: str, astronaut: np.ndarray) -> None:
    """It would save the image and begin the next: another script's beginning takes the stop back."""
    sdnext.state.on_progress = lambda: setattr(sdnext.state, "interrupted", True)
    with pytest.raises(_ReportedError, match="interrupted"):
        extras.process(picture(Image.fromarray(astronaut)), **values(extras, model=model))


def test_skip_goes_on_with_the_next(extras: Any, sdnext: SimpleNamespace, model: str, astronaut: np.ndarray) -> None:
    sdnext.state.on_progress = lambda: setattr(sdnext.state, "skipped", True)
    image = Image.fromarray(astronaut)
    pp = picture(image)
    extras.process(pp, **values(extras, model=model))
    assert (pp.image, pp.info) == (image, {})


def test_its_model_moves_by_itself(sdnext: SimpleNamespace, script: Any) -> None:
    from quantface_webui import host

    sdnext.model_data.sd_model = object()
    with host.diffusion_model_aside():
        assert sdnext.moves == []
