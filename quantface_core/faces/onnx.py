"""OpenCV's face networks: loaded from ONNX files at any path, and run without its log messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..runtime.shared_context import SharedContext


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


@contextmanager
def _errors_only() -> Iterator[None]:
    """Silences OpenCV 5, which warns about its target at every new input size, to no use for the user."""
    logging = getattr(cv2.utils, "logging", None)  # missing in OpenCV 4.8, which does not warn
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)


quiet = SharedContext(_errors_only)
"""Context manager: within it OpenCV logs errors only."""
