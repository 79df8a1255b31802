"""One image in memory, cancelled by its user."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.pipelines.callbacks import PipelineCallbacks
from quantface_core.pipelines.restore_picture import PictureRequest, restore_picture
from tests.stages.test_noisy_faces import pair
from tests.stages.toy_restorers import Waxy


def test_cleaning_a_noisy_face_can_be_cancelled(test_faces: list[Path]) -> None:
    class CancelledError(Exception):
        """The host's."""

    _, noisy = pair(test_faces[0], 256)
    checks = []

    def check() -> None:
        checks.append(None)
        if len(checks) == 5:  # the first tile has more layers, and a large face hundreds of tiles
            raise CancelledError

    told = []
    callbacks = PipelineCallbacks(progress=told.append, check_cancelled=check)
    with pytest.raises(CancelledError):
        restore_picture(PictureRequest(noisy, Waxy(), None), callbacks)
    assert not told  # its restoring never began
