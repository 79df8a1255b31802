"""The axes of the X/Y/Z plot on a stand-in for the host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from quantface_core.errors import QuantFaceError
from tests.webui.standin import fake


@pytest.fixture
def plot(script: Any, webui: SimpleNamespace) -> Any:
    """The host's script, after the callback that comes before the page."""

    def axis(label: str, type: Any, apply: Any, confirm: Any = None, choices: Any = None) -> SimpleNamespace:
        return SimpleNamespace(label=label, type=type, apply=apply, confirm=confirm, choices=choices)

    module = fake("xyz_grid.py", AxisOption=axis, axis_options=[axis("Nothing", str, None)])
    others = SimpleNamespace(path="/host/scripts/loopback.py", module=None)
    webui.modules.scripts.scripts_data = [others, SimpleNamespace(path="/host/scripts/xyz_grid.py", module=module)]
    for callback in webui.callbacks["on_before_ui"]:
        callback()
    return module


def axes(plot: Any) -> dict[str, Any]:
    return {axis.label: axis for axis in plot.axis_options}


def test_every_setting_is_an_axis_once(plot: Any, webui: SimpleNamespace) -> None:
    from quantface_webui.settings import NAMES, infotext_name

    webui.callbacks["on_before_ui"][0]()  # the page is made again
    assert [axis.label for axis in plot.axis_options] == ["Nothing", *map(infotext_name, NAMES)]
    assert "quantface-mini-w4a4" in axes(plot)["QuantFace model"].choices()
    assert axes(plot)["QuantFace visibility"].type is float
    assert axes(plot)["QuantFace strength"].type is str  # auto is one


def test_a_cell_s_faces_are_restored_with_its_values(plot: Any, webui: SimpleNamespace) -> None:
    from quantface_webui.generation import settings

    grid = SimpleNamespace(restore_faces=False, override_settings={"CLIP_stop_at_last_layers": 2})
    cell = SimpleNamespace(**vars(grid))  # the host copies a job for each cell, not deeply
    axes(plot)["QuantFace strength"].apply(cell, "0.5", ["auto", "0.5"])
    axes(plot)["QuantFace visibility"].apply(cell, 0.25, [0.25])
    assert cell.restore_faces
    assert grid.override_settings == {"CLIP_stop_at_last_layers": 2}
    webui.opts.data |= cell.override_settings  # as the host does while it generates one
    assert webui.opts.face_restoration_model == "QuantFace"
    assert (settings().strength, settings().visibility) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("name", "value"), [("strength", "2"), ("faces", "first"), ("model", "gone"), ("color", "blue")]
)
def test_a_wrong_value_is_told_before_anything_is_generated(plot: Any, name: str, value: str) -> None:
    axis = axes(plot)[f"QuantFace {name}"]
    with pytest.raises(QuantFaceError, match=name):
        axis.confirm(None, [value])


def test_right_values_are_confirmed(plot: Any) -> None:
    axes(plot)["QuantFace strength"].confirm(None, ["auto", "0.5"])
    axes(plot)["QuantFace model"].confirm(None, axes(plot)["QuantFace model"].choices())
