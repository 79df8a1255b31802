"""Graphs that could not be captured, and memory that they free."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from quantface_core.nn.graphs import Graphs
from tests.nn.layers import CPU
from tests.nn.recorder import Again, run


def test_what_cannot_be_captured_is_computed_and_not_tried_again(graphs: Graphs, recorder: Again) -> None:
    tried = []

    def fail(work: Callable[[], Any]) -> Any:
        tried.append(work)
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder.capture = fail  # type: ignore[method-assign]
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    run(graphs, model, x)
    with pytest.warns(UserWarning, match="graphs are off.*capturing whole: operation not permitted when stream"):
        assert torch.equal(run(graphs, model, x), model(x))
    for _ in range(2):
        assert torch.equal(run(graphs, model, x), model(x))
    assert len(tried) == 1
    assert Graphs.failure == "whole: operation not permitted when stream is capturing"
    other = Graphs(lambda _: pytest.fail("asked again"))
    assert torch.equal(run(other, model, x), model(x))


def test_no_memory_drops_them(graphs: Graphs) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(2):
        run(graphs, model, x)
    assert graphs.held
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode(), graphs.running(model, CPU):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert not graphs.held
    assert torch.equal(run(graphs, model, x), model(x))


def test_a_batch_that_finds_no_memory_drops_them_too(graphs: Graphs) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(2):
        run(graphs, model, x)
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode(), graphs.running(model, CPU, wanted=False):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert not graphs.held


def test_no_memory_to_capture_is_the_model_s_own_affair(graphs: Graphs, recorder: Again) -> None:
    """Computed eagerly once what failed is freed, till the model moves; other models go on capturing."""
    maps: list[weakref.ref[torch.Tensor]] = []
    capture = recorder.capture

    def fail(work: Callable[[], Any]) -> Any:
        made = torch.zeros(8)
        maps.append(weakref.ref(made))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    recorder.capture = fail  # type: ignore[method-assign]

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not any(freed() is not None for freed in maps)
            return super().forward(x)

    model, x = Model(4, 3), torch.randn(2, 4)
    for _ in range(5):
        run(graphs, model, x)
    assert len(maps) == 1
    assert not Graphs.failure
    recorder.capture = capture  # type: ignore[method-assign]
    graphs.drop()  # it moved
    for _ in range(2):
        run(graphs, model, x)
    assert graphs.held


def test_a_cancellation_is_no_failed_capture(graphs: Graphs, recorder: Again) -> None:
    class Cancelled(Exception):  # noqa: N818
        pass

    class Model(nn.Linear):
        cancelled = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.cancelled:
                raise Cancelled
            return super().forward(x)

    model, x = Model(4, 3), torch.randn(2, 4)
    run(graphs, model, x)
    model.cancelled = True
    with pytest.raises(Cancelled):
        run(graphs, model, x)
    model.cancelled = False
    for _ in range(2):
        assert torch.equal(run(graphs, model, x), model(x))
    assert (recorder.captured, recorder.replayed) == (2, 1)


def test_a_recorder_whose_first_capture_was_cancelled_is_replaced(recorder: Again) -> None:
    """Torch may have freed its memory pool with the graph."""
    asked, capture = [], recorder.capture
    graphs = Graphs(lambda device: asked.append(device) or recorder)

    def cancel(_: Callable[[], Any]) -> Any:
        raise KeyboardInterrupt

    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    run(graphs, model, x)
    recorder.capture = cancel  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(graphs, model, x)
    recorder.capture = capture  # type: ignore[method-assign]
    run(graphs, model, x)
    assert len(asked) == 2
    recorder.capture = cancel  # type: ignore[method-assign]
    other = torch.randn(3, 4)
    run(graphs, model, other)
    with pytest.raises(KeyboardInterrupt):
        run(graphs, model, other)
    run(graphs, model, x)
    assert (len(asked), recorder.replayed) == (2, 1)  # the graph that exists holds the pool
