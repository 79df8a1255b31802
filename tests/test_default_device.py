"""Random numbers and constants that belong on the CPU are made there, whatever torch's default device is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from quantface_core import RestoreOptions, load_restorer, restore_photo, restorer_path
from quantface_core.faces.blend import BUNDLED
from quantface_core.faces.detect import FaceDetector
from quantface_core.io.face_restorers import _tensors
from quantface_core.io.tensor_files import open_tensors
from quantface_core.kernels.balance import low_rank
from quantface_core.kernels.hadamard import Rotation, hadamard, rotation_signs
from quantface_core.quant.fisher import _drawn, metric_root
from quantface_core.quant.input_sample import choose
from quantface_core.restorer.attention import attention
from quantface_core.restorer.seeded_noise import seeded_noise

NOTHING = torch.full((2, 2), torch.nan)
WEIGHT = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))

TOKENS = torch.randn(3, 1, 1, 2100, 4, generator=torch.Generator().manual_seed(0))  # as many as take a head at a time


@pytest.mark.parametrize(
    "make",
    [
        lambda: hadamard.__wrapped__(40),
        lambda: rotation_signs(Rotation(6, 1, 0)),
        lambda: low_rank(WEIGHT, 4, 0)[0],
        lambda: choose(9, 4, 0),
        lambda: _drawn(WEIGHT, torch.Generator().manual_seed(0)),
        lambda: metric_root(NOTHING),
        lambda: seeded_noise([1, 2], [(4, 4)])[0],
        lambda: attention(*TOKENS),
    ],
    ids=["hadamard", "signs", "low_rank", "sample", "direction", "metric", "noise", "attention"],
)
def test_the_default_device_changes_nothing(make: Callable[[], Any]) -> None:
    expected = make()
    with torch.device("meta"):  # stands for cuda: another device than that of a CPU generator
        assert torch.equal(make(), expected)


def test_a_low_bit_model_restores_the_same_photo(astronaut: np.ndarray, detector: FaceDetector) -> None:
    def restored() -> np.ndarray:
        restorer = load_restorer(restorer_path("quantface-mini-w4a4"))
        return restore_photo(astronaut, restorer, detector(astronaut), RestoreOptions(strength=1.0)).pixels

    expected = restored()
    with torch.device("meta"):
        assert np.array_equal(restored(), expected)


def test_files_are_read_on_the_cpu() -> None:
    with torch.device("meta"), open_tensors(BUNDLED) as file:  # safetensors before 0.6.1 would read to this device
        assert {file.read(name).device.type for name in file.shapes} == {"cpu"}
        assert {t.device.type for t in _tensors(BUNDLED, "GFPGAN").values()} == {"cpu"}
