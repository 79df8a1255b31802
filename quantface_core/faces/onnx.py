"""OpenCV's face networks: loaded from ONNX files at any path, and run without its log messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np


def load(create: Callable[..., Any], model: Path, *settings: Any) -> Any:
    """Load an ONNX file by an OpenCV class's `create` function. Raises cv2.error.

    On Windows, OpenCV cannot open names outside its code page: such a file is passed as bytes, which detectors accept
    since OpenCV 4.9, recognisers since 4.11.
    """
    try:
        return create(str(model), "", *settings)
    except cv2.error as error:
        if str(model).isascii() or not model.is_file():
            raise
        try:
            return create("onnx", np.fromfile(model, np.uint8), np.empty(0, np.uint8), *settings)
        except TypeError:  # of an OpenCV that takes no bytes
            raise error from None


class _Quiet:
    """Silences OpenCV 5, which warns about its target at every new input size, to no use for the user.

    The log level is global to the process: the first thread to enter changes it, the last to leave restores it.
    """

    def __init__(self) -> None:
        self._logging = getattr(cv2.utils, "logging", None)  # missing in OpenCV 4.8, which does not warn
        self._lock, self._within, self._level = Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1 and self._logging:
                self._level = self._logging.getLogLevel()
                self._logging.setLogLevel(self._logging.LOG_LEVEL_ERROR)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within and self._logging:
                self._logging.setLogLevel(self._level)


quiet = _Quiet()
"""Context manager: within it OpenCV logs errors only."""
