"""What the page shows is there in Chinese, and nothing that it does not show."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from PIL import Image

from tests.webui.conftest import ROOT


def test_every_text_is_translated(script: Any, webui: SimpleNamespace) -> None:
    translated = json.loads((ROOT / "localizations" / "zh_CN.json").read_text("utf-8"))
    source = webui.gradio.Textbox()
    webui.callbacks["on_after_component"][0](source, elem_id="extras_image")
    script.QuantFaceExtras().ui()
    script.QuantFaceScratches().ui()
    webui.callbacks["on_ui_settings"][0]()
    shown = {"QuantFace model: refresh"}  # what the host calls the button beside the menu
    made = webui.gradio.Textbox.made
    [(read, _, _)] = next(c.handlers for c in made if c.options.get("elem_id") == "quantface_read")
    wrong = Image.new("RGB", (8, 8))
    wrong.info["extras"] = "QuantFace model: quantface-mini, QuantFace visibility: 7"
    for picture in (None, wrong):
        read(picture)
    shown |= set(webui.warnings)
    for component in made:
        shown |= {component.options.get("label"), component.options.get("tooltip")}
        if type(component).__name__ == "Radio":
            shown |= set(component.args[0])
        if type(component).__name__ == "Markdown":
            shown |= set(component.args)
    for option in webui.opts.data_labels.values():
        shown |= {option.label, option.note}
    assert shown - {None, "", "QuantFace", "none"} == set(translated)  # "none" is the host's own word
    assert all(text and text == text.strip() for text in translated.values())
