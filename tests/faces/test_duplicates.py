"""Of several detections of one face, the best is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantface_core.faces import duplicates
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.duplicates import DOUBTFUL_SCORE, merge, new_faces, without_doubtful_parts
from quantface_core.types import Face


def at(left: float, top: float, side: float, score: float) -> Face:
    return replace(face_in_box((left, top, side, side)), score=score)


def test_merge_keeps_the_surest_of_one_face_and_every_other_face() -> None:
    big, shifted, other_size = at(0, 0, 100, 0.8), at(5, 5, 100, 0.9), at(10, 10, 80, 0.6)
    neighbour, child = at(105, 0, 100, 0.7), at(40, 60, 40, 0.75)
    assert merge([big, shifted, other_size, neighbour, child]) == (shifted, child, neighbour)


@pytest.mark.parametrize("other", [at(30, 30, 40, 0.6), at(50, 20, 60, 0.6)])
def test_a_smaller_face_in_front_is_another(other: Face) -> None:
    """One is less than half as large, in the same place; one is off by half of its own size."""
    face = at(0, 0, 100, 0.8)
    assert merge([face, other]) == (face, other)


def test_each_of_a_crowd_s_finds_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand faces are a million comparisons: what those need is worked out before."""
    measured = []
    place = duplicates._place
    monkeypatch.setattr(duplicates, "_place", lambda face: (measured.append(face), place(face))[1])
    crowd = [face_in_box((30.0 * (i % 20), 30.0 * (i // 20), 20.0, 20.0)) for i in range(400)]
    assert len(merge(crowd)) == 400
    assert len(measured) == 400


def test_what_is_known_is_not_new() -> None:
    known, other = at(0, 0, 100, 0.9), at(200, 0, 100, 0.8)
    assert new_faces([at(5, 5, 100, 0.7), other], [known]) == [other]


def test_doubtful_parts_of_a_sure_face_go() -> None:
    face, beard, beside = at(0, 0, 100, 0.9), at(30, 60, 40, DOUBTFUL_SCORE), at(90, 0, 40, DOUBTFUL_SCORE)
    far = at(300, 300, 40, DOUBTFUL_SCORE)
    assert without_doubtful_parts([face, beard, beside, far]) == (face, beside, far)
    assert without_doubtful_parts([beard, beside]) == (beard, beside)
