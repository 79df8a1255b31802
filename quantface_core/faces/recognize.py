"""Identity distance of two faces, by SFace in OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..types import Face, Pixels
from . import onnx

RECOGNIZER_FILE, RECOGNIZER_REPO = "face_recognition_sface_2021dec.onnx", "opencv/face_recognition_sface"


class FaceRecognizer:
    """SFace (Zhong et al. 2021), loaded once. Not safe to share between threads."""

    def __init__(self, model: Path) -> None:
        """Load the ONNX file. Raises ModelError when OpenCV cannot."""
        try:
            self._net = onnx.load(cv2.FaceRecognizerSF.create, model)
        except cv2.error as error:
            raise ModelError(f"{model} is not a face recogniser that OpenCV can load: {error.err}") from error

    def __call__(self, pixels: Pixels, face: Face) -> NDArray[np.float64]:
        """The identity embedding of a face in an RGB image [H, W, 3] uint8: a vector of length 1."""
        row = np.array([[*face.box, *(v for point in face.landmarks for v in point), face.score]], np.float32)
        crop = self._net.alignCrop(np.ascontiguousarray(pixels[:, :, ::-1]), row)
        vector = self._net.feature(crop).astype(np.float64).ravel()
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


def identity_degrees(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The angle between two identity embeddings of length 1, in degrees: 0 = the same, about 90 = strangers."""
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def landmark_distance(a: Face, b: Face, side: float) -> float:
    """Mean distance of two faces' landmarks in images of `side` pixels, scaled to images of 512 pixels."""
    apart = np.subtract(a.landmarks, b.landmarks)
    return float(np.hypot(apart[:, 0], apart[:, 1]).mean() * 512 / side)
