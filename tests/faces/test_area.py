from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.faces import area as module
from quantface_core.faces.area import Area

sides = st.integers(-5, 40)
areas = st.builds(lambda x, y, w, h: Area(x, y, x + w, y + h), sides, sides, st.integers(1, 30), st.integers(1, 30))


@settings(deadline=None)
@given(areas, st.integers(1, 20))
def test_tiles_cover_an_area_once(area: Area, side: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TILE", side)
        count = np.zeros((80, 80), int)
        for tile in area.tiles():
            assert not tile.is_empty
            assert max(tile.size) <= side
            count[tile.expanded(0).relative_to(Area(-5, -5, 75, 75)).pixels] += 1
    expected = np.zeros((80, 80), int)
    expected[area.top + 5 : area.bottom + 5, area.left + 5 : area.right + 5] = 1
    assert np.array_equal(count, expected)


@given(areas, areas)
def test_an_intersection_lies_in_both_and_both_in_their_union(one: Area, other: Area) -> None:
    both, union = one.intersection(other), one.union(other)
    inside = {(x, y) for x in range(one.left, one.right) for y in range(one.top, one.bottom)} & {
        (x, y) for x in range(other.left, other.right) for y in range(other.top, other.bottom)
    }
    assert both.is_empty == (not inside)
    if not both.is_empty:
        assert both.size[0] * both.size[1] == len(inside)
        assert union.intersection(both) == both
    assert union.intersection(one) == one
    assert union.intersection(other) == other
    assert one.expanded(3).expanded(-3) == one
