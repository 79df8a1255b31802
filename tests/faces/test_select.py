from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quantface_core.errors import UsageError
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.select import select_faces, sort_faces
from quantface_core.options import RestoreOptions
from quantface_core.types import Face


def at(left: float, side: float, score: float) -> Face:
    return replace(face_in_box((left, 0.0, side, side)), score=score)


RIGHT_BIG = at(300, 90, 0.95)
LEFT_SMALL = at(10, 20, 0.85)
MIDDLE = at(150, 40, 0.75)
FACES = (RIGHT_BIG, LEFT_SMALL, MIDDLE)


def chosen(**options: object) -> list[Face]:
    settings = RestoreOptions(**options)
    ordered = sort_faces(FACES, settings)
    return [ordered[i] for i in select_faces(ordered, settings, 400, 100)]


def test_positions_count_from_the_left_or_from_the_largest() -> None:
    assert chosen() == [LEFT_SMALL, MIDDLE, RIGHT_BIG]
    assert chosen(order="size") == [RIGHT_BIG, MIDDLE, LEFT_SMALL]
    assert chosen(order="confidence") == [RIGHT_BIG, LEFT_SMALL, MIDDLE]
    assert chosen(faces=(0,)) == [LEFT_SMALL]
    assert chosen(faces=(0,), order="size") == [RIGHT_BIG]
    wide, narrow = at(0, 100, 0.9), at(10, 20, 0.9)
    assert sort_faces([wide, narrow], RestoreOptions()) == (narrow, wide)  # by the middle of their boxes


def test_largest_and_thresholds() -> None:
    assert chosen(faces="largest") == [RIGHT_BIG]
    assert chosen(min_size=30) == chosen(min_size=40) == [MIDDLE, RIGHT_BIG]
    assert chosen(min_confidence=0.9) == [RIGHT_BIG]
    assert chosen(min_confidence=0.85) == [LEFT_SMALL, RIGHT_BIG]
    assert chosen(min_confidence=1.0, faces="largest") == []


def test_positions_repeat_and_overrun_harmlessly() -> None:
    assert chosen(faces=(2, 2, 99)) == [RIGHT_BIG]
    assert chosen(faces=(-1,)) == []


def test_what_is_outside_or_has_no_shape_is_not_chosen() -> None:
    faces = (MIDDLE, at(5000, 90, 0.9), replace(LEFT_SMALL, landmarks=((1.0, 1.0),) * 5))
    assert select_faces(faces, RestoreOptions(), 400, 100) == (0,)
    assert select_faces(faces, RestoreOptions(faces="largest"), 400, 100) == ()


@pytest.mark.parametrize("options", [{"faces": "some"}, {"order": "random"}])
def test_a_choice_that_is_none(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))} must be"):
        chosen(**options)


@pytest.mark.parametrize("given", [None, LEFT_SMALL, [LEFT_SMALL.to_dict()], "all", sort_faces])
def test_what_are_no_faces_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="faces are what a detector returns"):
        sort_faces(given, RestoreOptions())


@pytest.mark.parametrize("landmarks", [(), ((1.0, 1.0),) * 3])
def test_a_face_without_its_landmarks_is_refused(landmarks: Any) -> None:
    with pytest.raises(UsageError, match=r"5 landmarks: where you have boxes, detector\.within"):
        sort_faces([MIDDLE, replace(LEFT_SMALL, landmarks=landmarks)], RestoreOptions())
