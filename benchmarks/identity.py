"""Identity distance between a face and its original: dlib's descriptor (dlib-bin, face-recognition-models; CC0)."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Identity:
    """Distances between 128-dimensional descriptors; the usual threshold for "the same person" is 0.6.

    Eyes and nose are located in the original only, so that a blurred copy is cropped identically.
    """

    def __init__(self) -> None:
        weights = find_spec("face_recognition_models")  # importing it would need setuptools' pkg_resources
        if weights is None or not weights.submodule_search_locations or find_spec("dlib") is None:
            sys.exit("identity needs dlib and its weights: pip install dlib-bin face-recognition-models")
        import dlib

        folder = Path(weights.submodule_search_locations[0]) / "models"
        self._dlib = dlib
        self._landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._describe = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, pictures: list[NDArray[np.uint8]], originals: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """One distance per pair of aligned faces [H, W, 3] uint8: [N]."""
        return np.array([self._distance(a, b) for a, b in zip(pictures, originals, strict=True)])

    def _distance(self, picture: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
        height, width = original.shape[:2]
        # From brows to chin and cheek to cheek of an FFHQ-aligned face: the box that dlib's own detector would find.
        box = self._dlib.rectangle(int(0.22 * width), int(0.32 * height), int(0.78 * width), int(0.88 * height))
        place = self._landmarks(original, box)
        a, b = (
            np.array(self._describe.compute_face_descriptor(self._dlib.get_face_chip(x, place, size=150)))
            for x in (picture, original)
        )
        return float(np.linalg.norm(a - b))
