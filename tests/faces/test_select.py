from __future__ import annotations

import pytest

from quantface_core.errors import UsageError
from quantface_core.faces.select import parse_positions, select_faces, sort_faces
from quantface_core.types import Face, RestoreOptions

POINTS = ((0.0, 0.0),) * 5
RIGHT_BIG = Face((300, 0, 90, 90), POINTS, 0.95)
LEFT_SMALL = Face((10, 0, 20, 20), POINTS, 0.85)
MIDDLE = Face((150, 0, 40, 40), POINTS, 0.75)
FACES = (RIGHT_BIG, LEFT_SMALL, MIDDLE)


def chosen(**options: object) -> list[Face]:
    settings = RestoreOptions(**options)
    ordered = sort_faces(FACES, settings)
    return [ordered[i] for i in select_faces(ordered, settings)]


def test_positions_count_from_the_left_or_from_the_largest() -> None:
    assert chosen() == [LEFT_SMALL, MIDDLE, RIGHT_BIG]
    assert chosen(order="size") == [RIGHT_BIG, MIDDLE, LEFT_SMALL]
    assert chosen(order="confidence") == [RIGHT_BIG, LEFT_SMALL, MIDDLE]
    assert chosen(faces=(0,)) == [LEFT_SMALL]
    assert chosen(faces=(0,), order="size") == [RIGHT_BIG]


def test_largest_and_thresholds() -> None:
    assert chosen(faces="largest") == [RIGHT_BIG]
    assert chosen(min_size=30) == [MIDDLE, RIGHT_BIG]
    assert chosen(min_confidence=0.9) == [RIGHT_BIG]
    assert chosen(min_confidence=1.0, faces="largest") == []


def test_positions_repeat_and_overrun_harmlessly() -> None:
    assert chosen(faces=(2, 2, 99)) == [RIGHT_BIG]


@pytest.mark.parametrize("options", [{"faces": "some"}, {"order": "random"}])
def test_a_choice_that_is_none(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="unknown"):
        chosen(**options)


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("0", (0,)),
        ("0,2", (0, 2)),
        (" 2 , 0 ,", (2, 0)),
        ("0-3", (0, 1, 2, 3)),
        ("5, 1 - 2,,", (5, 1, 2)),
        ("3-3", (3,)),
    ],
)
def test_positions_are_numbers_and_ranges(text: str, positions: tuple[int, ...]) -> None:
    assert parse_positions(text) == positions


@pytest.mark.parametrize("text", ["", ",", "x", "-1", "1-", "1-2-3", "3-1", "0-99999999999", "9" * 5000, "1.5", "0;2"])
def test_what_is_no_position_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="positions '"):
        parse_positions(text)
