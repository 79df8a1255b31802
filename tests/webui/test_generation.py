"""Restore faces and its settings page on a stand-in for the host."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def page(script: Any, webui: SimpleNamespace) -> SimpleNamespace:
    """The host with the settings page added."""
    for callback in webui.callbacks["on_ui_settings"]:
        callback()
    return webui


def restorers(webui: SimpleNamespace) -> list[str]:
    return [restorer.name() for restorer in webui.shared.face_restorers]


def test_there_is_one_restorer_however_often_scripts_load(script: Any, webui: SimpleNamespace) -> None:
    first = webui.shared.face_restorers[0]
    webui.load()
    assert restorers(webui) == ["QuantFace"]
    assert webui.shared.face_restorers[0] is not first


def test_faces_are_the_librarys(page: Any, model: str, astronaut: np.ndarray, expected: np.ndarray) -> None:
    page.opts.data |= {"quantface_model": model, "quantface_strength": "1"}
    restored = page.shared.face_restorers[0].restore(astronaut)
    assert np.array_equal(restored, expected)


def test_settings_before_the_page_is_made_are_the_usual(script: Any) -> None:
    from quantface_webui.generation import settings
    from quantface_webui.settings import Settings

    assert settings() == Settings()


def test_the_page_s_defaults_are_the_usual(page: Any) -> None:
    from quantface_webui.generation import settings
    from quantface_webui.settings import NAMES, Settings

    assert settings() == Settings()
    assert set(page.opts.data_labels) == {f"quantface_{name}" for name in NAMES}
    choices = page.opts.data_labels["quantface_model"].component_args()["choices"]
    assert {"quantface-mini-w4a4", "osdface-w4a4"} <= set(choices)
    assert page.opts.data["quantface_model"] in choices


@pytest.mark.parametrize("wrong", [{"quantface_model": "gone"}, {"quantface_faces": "first"}])
def test_an_error_leaves_the_picture(page: Any, astronaut: np.ndarray, wrong: dict[str, str]) -> None:
    page.opts.data |= wrong
    assert page.shared.face_restorers[0].restore(astronaut) is astronaut
    [(message, traceback)] = page.reports
    assert message.startswith("QuantFace: ")
    assert not traceback


def test_interrupt_leaves_the_picture(page: Any, model: str, astronaut: np.ndarray) -> None:
    page.opts.data["quantface_model"] = model
    page.state.interrupted = True
    assert page.shared.face_restorers[0].restore(astronaut) is astronaut
    assert not page.reports


def test_a_generated_picture_tells_what_reads_back(page: Any, script: Any, model: str) -> None:
    page.opts.data |= {"quantface_model": model, "quantface_strength": "0.5", "quantface_seed": 7}
    p = SimpleNamespace(restore_faces=True, extra_generation_params={})
    script.QuantFaceInfotext().process(p)
    assert p.extra_generation_params == {}  # another restorer is chosen
    page.opts.data["face_restoration_model"] = "QuantFace"
    script.QuantFaceInfotext().process(p)
    told = p.extra_generation_params
    assert told == {"QuantFace model": model, "QuantFace strength": "0.5", "QuantFace seed": "7"}
    names = {info.infotext: key for key, info in page.opts.data_labels.items()}  # as the host reads them
    assert {names[name]: value for name, value in told.items()} == {
        "quantface_model": model,
        "quantface_strength": "0.5",
        "quantface_seed": "7",
    }
    p.restore_faces = False  # the next cell of a grid, which shares the parameters
    script.QuantFaceInfotext().process(p)
    assert p.extra_generation_params == {}


@pytest.mark.parametrize("wrong", [{"quantface_model": "gone"}, {"quantface_faces": "first"}])
def test_a_generated_picture_tells_why_its_faces_are_not_restored(
    page: Any, script: Any, wrong: dict[str, str]
) -> None:
    """And claims no model that did not run."""
    comments: list[str] = []
    p = SimpleNamespace(restore_faces=True, extra_generation_params={}, comment=comments.append)
    page.opts.data |= {"face_restoration_model": "QuantFace", **wrong}
    script.QuantFaceInfotext().process(p)
    [value] = wrong.values()
    [(name, told)] = p.extra_generation_params.items()
    assert name == "QuantFace error"
    assert repr(value) in told
    assert comments == [f"QuantFace: {told}"]
    page.opts.data |= {"quantface_model": "quantface-mini", "quantface_faces": "all"}
    script.QuantFaceInfotext().process(p)  # the next cell of a grid
    assert p.extra_generation_params == {"QuantFace model": "quantface-mini"}


def test_another_version_starts_afresh(script: Any, webui: SimpleNamespace) -> None:
    """A reload of the page after an update: nothing of the old version is imported again."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("quantface_")}
    try:
        webui.callbacks["on_script_unloaded"][0]()
        assert not [name for name in sys.modules if name.startswith("quantface_")]
    finally:
        sys.modules.update(before)


def test_models_are_in_the_host_s_folder(script: Any, webui: SimpleNamespace, tmp_path: Any) -> None:
    import os

    from quantface_webui import host

    assert os.environ["QUANTFACE_MODELS_DIR"] == str(webui.models)
    webui.shared.cmd_opts.quantface_models_path = str(tmp_path / "elsewhere")
    assert host.models_folders() == [tmp_path / "elsewhere", webui.models]


def test_files_of_the_folder_are_found_by_their_names_there(script: Any, webui: SimpleNamespace) -> None:
    from quantface_webui import host

    for name in ("mine.safetensors", "sub/mine.safetensors", ".half.safetensors", "originals/vae.safetensors"):
        (webui.models / name).parent.mkdir(exist_ok=True)
        (webui.models / name).touch()
    (webui.models.parent / "other.safetensors").touch()
    (webui.models / "link.safetensors").symlink_to(webui.models.parent / "other.safetensors")
    assert host.model_files() == ["link.safetensors", "mine.safetensors", "sub/mine.safetensors"]
    assert all(host.model_file(name) == webui.models / name for name in host.model_files())
    for name in ("../other.safetensors", str(webui.models / "mine.safetensors"), "mine.ckpt", "gone.safetensors", ""):
        assert host.model_file(name) is None


def test_the_script_has_no_base_class_among_its_names(script: Any, webui: SimpleNamespace) -> None:
    """The host would take it for a script of ours."""
    bases = (webui.modules.scripts.Script, webui.modules.scripts_postprocessing.ScriptPostprocessing)
    found = {name for name, value in vars(script).items() if isinstance(value, type) and issubclass(value, bases)}
    assert found == {"QuantFaceExtras", "QuantFaceScratches", "QuantFaceInfotext"}


def test_a_text_that_leaves_something_out_means_the_usual(script: Any, webui: SimpleNamespace) -> None:
    [fill_in] = webui.callbacks["on_infotext_pasted"]
    params = {"Seed": "1", "QuantFace model": "quantface-mini", "QuantFace strength": "0.5"}
    fill_in("", params)
    assert params["QuantFace strength"] == "0.5"
    assert params["QuantFace faces"] == "all"
    for callback in webui.callbacks["on_ui_settings"]:
        callback()
    for name, option in webui.opts.data_labels.items():  # the host makes them what the page's values are
        value = type(option.default)(params[option.infotext])
        assert value == option.default or name in ("quantface_model", "quantface_strength")
    others = {"Seed": "1"}
    fill_in("", others)
    assert others == {"Seed": "1"}


def test_loading_is_light() -> None:
    """What the host's start waits for has no torch of ours to import: diffusers least of all."""
    import subprocess

    from tests.webui.conftest import ROOT

    code = (
        "import sys; sys.modules['torch'] = None; import quantface_webui.settings, quantface_core.io.model_menu as o;"
        "import quantface_core.pipelines.callbacks;"
        "o.menu_choices(lambda name: None);"
        "print([m for m in ('diffusers', 'cv2', 'numpy.linalg') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "diffusers" not in shown.stdout, shown
    assert shown.returncode == 0, shown.stderr
