"""When unpacked weights stay in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quantface_core.kernels import weight_cache
from quantface_core.kernels.weight_cache import CachedWeight


@pytest.mark.parametrize("room", [True, False])
def test_a_weight_is_unpacked_once_where_there_is_room(room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(weight_cache, "_has_room", lambda device: asked.append(device) or room)
    made: list[Tensor] = []

    def unpack() -> Tensor:
        made.append(torch.zeros(3, dtype=torch.int8))
        return made[-1]

    weight = CachedWeight(unpack)
    for _ in range(3):
        assert weight() is made[-1]
    assert len(made) == (1 if room else 3)
    assert len(asked) == 1  # a captured graph relies on the answer


@pytest.mark.parametrize(("free", "cached", "room"), [(4, 0, True), (2, 2, True), (2, 1, False)])
def test_memory_cached_by_torch_counts_as_free(
    free: int, cached: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: (1 + cached) << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1 << 30)
    assert weight_cache._has_room(torch.device("cuda")) == room
