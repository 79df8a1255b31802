"""Restoring with torch 2.1 to 2.3, which A1111 and Forge pin: without the names of torch that came later."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantface_core import load_restorer, restorer_path
from quantface_core.bundled import DEMO_PHOTO, demo_faces
from quantface_core.io.photos import read_photo
from quantface_core.kernels import reference
from quantface_core.nn.swap import prepare
from quantface_core.stages.restore import restore_photo

LATER = {torch.amp: ("GradScaler", "is_autocast_available"), torch: ("OutOfMemoryError", "get_autocast_dtype")}


@pytest.mark.filterwarnings("ignore:torch.(is|get)_autocast:DeprecationWarning")  # of today's torch
def test_the_bundled_low_bit_model_restores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = read_photo(DEMO_PHOTO).pixels
    restorer = load_restorer(restorer_path("quantface-mini-w4a4"))
    prepare(restorer, reference)  # oneDNN's products of bytes came with 2.4
    expected = restore_photo(photo, restorer, demo_faces()).pixels
    for module, names in LATER.items():
        for name in names:
            monkeypatch.delattr(module, name, raising=False)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda: False)  # took no device
    restored = restore_photo(photo, restorer, demo_faces())
    assert len(restored.restored) == 1
    assert np.array_equal(restored.pixels, expected)
