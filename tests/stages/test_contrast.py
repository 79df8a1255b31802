"""What a restorer is shown of a face, and what becomes of its answer: the same for photos and films."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quantface_core.faces.appearance import appearance_descriptor
from quantface_core.faces.boxes import face_in_box
from quantface_core.options import RestoreOptions
from quantface_core.stages.contrast import restore_stretched
from quantface_core.stages.film import FilmRestorer
from quantface_core.stages.frames import DetectedFrame
from quantface_core.stages.restore import restore_photo
from tests.stages.test_film import Still

FULL = RestoreOptions(strength=1.0, color="none")


class Darker:
    """A restorer that keeps what it was shown, and takes a fifth of full white away."""

    image_size, device = 64, torch.device("cpu")
    keeps_contrast = False

    def __init__(self, keeps_contrast: bool = False) -> None:
        self.keeps_contrast, self.shown = keeps_contrast, []

    def __call__(self, images: Tensor, seeds: object = None) -> Tensor:
        self.shown += [image.permute(1, 2, 0).numpy() / 2 + 0.5 for image in images]
        return images - 0.4


@pytest.fixture
def faded() -> np.ndarray:
    """Pixels of a face, [200, 200, 3], whose contrast is a fifth of an ordinary one's."""
    cells = np.kron(np.random.default_rng(0).integers(0, 50, (20, 20, 3)), np.ones((10, 10, 1)))
    return (120 + cells).astype(np.uint8)


def test_a_faded_face_is_shown_stretched_and_its_change_compressed(faded: np.ndarray) -> None:
    crop, restorer = (faded[:64, :64] / 255).astype(np.float32), Darker()
    (after,), (stretch,) = restore_stretched([crop], restorer, FULL)
    assert np.ptp(restorer.shown[0]) > 3 * np.ptp(crop)
    assert after == pytest.approx(crop - 0.2 / stretch.gain, abs=1e-5)


@pytest.mark.parametrize("film", [False, True], ids=["photo", "film"])
@pytest.mark.parametrize("keeps_contrast", [False, True])
def test_a_restorer_that_keeps_contrast_gets_faces_in_their_own(
    faded: np.ndarray, keeps_contrast: bool, film: bool
) -> None:
    face, restorer = face_in_box((50.0, 40.0, 96.0, 120.0)), Darker(keeps_contrast)
    if film:
        seen = [DetectedFrame(Still(faded), [face], [appearance_descriptor(faded, face)])]
        (result,) = FilmRestorer(restorer, FULL, 0.0).restore(seen)
    else:
        result = restore_photo(faded, restorer, [face], FULL)
    assert (np.ptp(restorer.shown[0]) < 0.4) == keeps_contrast
    change = int(faded[95:105, 95:105].mean()) - int(result.pixels[95:105, 95:105].mean())
    assert change == pytest.approx(51 if keeps_contrast else 51 / 4, abs=3)
