"""OpenCV's networks of faces, loaded from ONNX files wherever these lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def load(create: Callable[..., Any], model: Path, *settings: Any) -> Any:
    """What `create` of an OpenCV class makes of an ONNX file. Raises cv2.error.

    Windows' OpenCV opens no names beyond its code page: such a file goes to it as bytes. Detectors are made of bytes
    since OpenCV 4.9, recognisers since 4.11.
    """
    try:
        return create(str(model), "", *settings)
    except cv2.error:
        if str(model).isascii() or not model.is_file():
            raise
        return create("onnx", np.fromfile(model, np.uint8), np.empty(0, np.uint8), *settings)
