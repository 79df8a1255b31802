"""Looks tell people apart, and know one again under noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from quantface_core.faces.appearance import appearance_descriptor, appearance_similarity
from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo


def test_people_are_known_again_and_told_apart(test_faces: list[Path], detector: FaceDetector) -> None:
    draws = np.random.default_rng(0)
    first, second = [], []
    for path in test_faces[:6]:
        pixels = cv2.resize(read_photo(path).pixels, (160, 160), interpolation=cv2.INTER_AREA)
        face = detector(pixels)[0]
        first.append(appearance_descriptor(pixels, face))
        darker = np.clip(pixels * 0.9 + draws.normal(0, 15, pixels.shape), 0, 255).astype(np.uint8)
        points = np.array(face.landmarks) + draws.normal(0, 1.5, (5, 2))
        second.append(appearance_descriptor(darker, replace(face, landmarks=tuple(map(tuple, points.tolist())))))
    same = [appearance_similarity(a, b) for a, b in zip(first, second, strict=True)]
    other = [appearance_similarity(a, b) for i, a in enumerate(first) for j, b in enumerate(second) if i != j]
    assert min(same) > 0.9
    assert np.percentile(other, 90) < 0.85
    assert appearance_similarity(first[0], first[0].astype(float)) > 0.999
