"""The button of the Extras tab that takes over the settings of the source picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from PIL import Image


def test_settings_are_read_back_from_a_picture(script: Any, webui: SimpleNamespace, model: str) -> None:
    source = webui.gradio.Textbox()
    for callback in webui.callbacks["on_after_component"]:
        callback(webui.gradio.Textbox(), elem_id="others")
        callback(source, elem_id="extras_image")
    extras = script.QuantFaceExtras()
    extras.controls = extras.ui()
    [(read, inputs, outputs)] = [
        handler
        for made in webui.gradio.Textbox.made
        for handler in made.handlers
        if made.options.get("elem_id") == "quantface_read"
    ]
    assert inputs == [source]
    assert outputs == list(extras.controls.values())
    image = Image.new("RGB", (8, 8))
    assert read(image) == ["as it is"] * len(outputs)
    assert read(None) == ["as it is"] * len(outputs)
    assert webui.warnings == ["The source image has no QuantFace settings"] * 2
    image.info["extras"] = (
        f'QuantFace model: {model}, QuantFace faces: "0,2", QuantFace strength: 0.4, QuantFace seed: 3'
    )
    shown = dict(zip(extras.controls, read(image), strict=True))
    assert shown["model"] == model
    assert (shown["enable"], shown["automatic"], shown["strength"]) == (True, False, 0.4)
    assert (shown["faces"], shown["positions"], shown["seed"]) == ("positions", "0,2", 3)
    image.info["extras"] = "QuantFace model: quantface-mini, QuantFace visibility: <b>7</b>"
    assert read(image) == ["as it is"] * len(outputs)
    assert "visibility must be a number, got '<b>7</b>'" in webui.reports[0][0]
    assert webui.warnings[2:] == ["The source image's QuantFace settings cannot be used: the console says why"]


def test_settings_are_those_of_one_text(extras: Any, model: str) -> None:
    """The tab's own before what the picture was generated with, and no mixture: what a text leaves out is as usual."""
    from quantface_webui.extras import _shown_settings

    def shown(**texts: str) -> dict[str, Any]:
        image = Image.new("RGB", (8, 8))
        image.info |= texts
        return _shown_settings(image)

    generated = f"a cat\nSteps: 20, QuantFace model: {model}, QuantFace faces: largest, QuantFace seed: 3"
    tab = f"QuantFace model: {model}, QuantFace strength: 0.5"
    for name in ("extras", "postprocessing"):
        found = shown(parameters=generated, **{name: tab})
        assert (found["strength"], found["faces"], found["seed"]) == (0.5, "all", -1)
    error = "Upscale: 2, QuantFace error: no model"
    found = shown(parameters=generated, extras=error)
    assert (found["automatic"], found["faces"], found["seed"]) == (True, "largest", 3)
