"""What stands for other restorers when the blend network is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "training"))


def test_every_alteration_is_drawn_and_nonsense_only_if_asked() -> None:
    from other_restorers import ALTERATIONS, NONSENSE, Faces, altered

    rng = np.random.default_rng(0)
    faces = Faces(*rng.random((4, 32, 32, 3), np.float32))
    assert sum(ALTERATIONS.values()) == pytest.approx(1)
    for kind in ALTERATIONS:
        image = kind(faces, rng)
        assert image.shape == (32, 32, 3)
        assert np.array_equal(image, faces.restored) == (kind.__name__ == "unchanged")
    for nonsense in (False, True):
        results = [altered(faces, nonsense, rng) for _ in range(300)]
        share = np.mean([np.array_equal(x, faces.restored) for x in results])
        unchanged = 0.45 + (0 if nonsense else sum(ALTERATIONS[kind] for kind in NONSENSE))
        assert share == pytest.approx(unchanged, abs=0.08)
