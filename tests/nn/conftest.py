"""Graphs recorded without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quantface_core.nn.graphs import Graphs
from tests.nn.recorder import Again


@pytest.fixture
def recorder() -> Iterator[Again]:
    yield Again()
    Graphs.failure = ""


@pytest.fixture
def graphs(recorder: Again) -> Graphs:
    return Graphs(lambda _: recorder)
