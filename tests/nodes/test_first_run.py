"""What a first Run of the templates finds: pictures that the pack puts into the host's input folder."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from quantface_core import FaceDetector, detector_path
from quantface_core.bundled import DEMO_PHOTO

ROOT = Path(__file__).parents[2]
_LOADERS = {"LoadImage", "LoadVideo"}


def test_every_template_opens_on_a_picture_that_is_there(pack: Any, host: SimpleNamespace) -> None:
    asyncio.run(pack.comfy_entrypoint())
    opened = [
        node["widgets_values"][0]
        for path in (ROOT / "workflows").glob("*.json")
        for node in json.loads(path.read_text("utf-8"))["nodes"]
        if node["type"] in _LOADERS
    ]
    assert opened
    assert {path.name for path in (host.models / "input").iterdir()} == set(opened)


def test_all_show_a_face(pack: Any, host: SimpleNamespace) -> None:
    asyncio.run(pack.comfy_entrypoint())
    frames = []
    for path in sorted((host.models / "input").iterdir()):
        video = cv2.VideoCapture(str(path))
        while (frame := video.read()[1]) is not None:
            frames.append(np.ascontiguousarray(frame[..., ::-1]))
    assert len(frames) == 1 + 1 + 16
    find = FaceDetector(detector_path())
    for frame in frames:
        assert [face.score > 0.8 for face in find(frame) if face.score > 0.7] == [True]


def test_what_the_user_has_there_stays(pack: Any, host: SimpleNamespace) -> None:
    own = host.models / "input" / "quantface_portrait.jpg"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    asyncio.run(pack.comfy_entrypoint())
    assert own.read_bytes() == b"mine"
    own.unlink()
    asyncio.run(pack.comfy_entrypoint())
    assert own.read_bytes() == DEMO_PHOTO.read_bytes()


def test_a_folder_that_cannot_be_written_takes_no_node_away(
    pack: Any, host: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    (host.models / "input").write_text("no folder")
    extension = asyncio.run(pack.comfy_entrypoint())
    assert asyncio.run(extension.get_node_list())
    assert "quantface_portrait.jpg" in caplog.text
