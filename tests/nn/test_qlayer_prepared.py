"""What a low-bit layer computes with: when it is prepared, by which thread, and when again."""

from __future__ import annotations

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import UsageError
from quantface_core.kernels import reference
from quantface_core.kernels.backend import Backend, LinearSpec
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.kernels.fusion import LinearFusion, StoredBranch
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.qlinear import QuantLinear, project
from tests.nn.layers import CPU, balanced


class Fused(reference.Linear):
    """A kernel that computes its layer's branch, and takes its time to read it."""

    def __init__(self, spec: LinearSpec) -> None:
        super().__init__(spec)
        self.stored: StoredBranch | None = None

    def take_branch(self, stored: StoredBranch) -> None:
        time.sleep(0.1)
        self.stored = stored

    def fused(self, x: Tensor, fusion: LinearFusion, others: tuple[Any, ...] = ()) -> list[Tensor]:
        results = []
        for kernel in (self, *others):
            y = kernel(x)
            if kernel.stored is not None:
                down, up = kernel.stored()
                y = y + kernel.transform(x) @ down.float().t() @ up.float().t()
            results.append(y)
        return (
            results
            if fusion.skip is None
            else list((torch.cat(results, 1) + fusion.skip).split([len(y[0]) for y in results], 1))
        )


@pytest.fixture
def fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linears are computed by kernels that fuse, on the CPU too."""
    make = QuantLinear._make_kernel

    def fused(layer: QuantLinear, backend: Backend, transform: ChannelTransform) -> Any:
        kernel = make(layer, reference, transform)
        kernel.__class__, kernel.stored = Fused, None
        return kernel

    monkeypatch.setattr(QuantLinear, "_make_kernel", fused)


def test_threads_that_ask_at_once_prepare_once(monkeypatch: pytest.MonkeyPatch) -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    x, made, make = torch.randn(3, 64), [], QuantLinear._make_kernel
    with torch.no_grad():
        expected = low(x)
    low.release()

    def slowly(layer: QuantLinear, *given: Any) -> Any:
        made.append(layer)
        time.sleep(0.05)
        return make(layer, *given)

    monkeypatch.setattr(QuantLinear, "_make_kernel", slowly)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: low(x).detach(), range(4)))
    assert len(made) == 1
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.usefixtures("fuses")
def test_no_thread_gets_a_kernel_without_its_branch() -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    x = torch.randn(3, 64)

    def later(seconds: float) -> Tensor:
        time.sleep(seconds)
        return low(x).detach()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(later, (0.0, 0.05))
    assert torch.equal(first, second)


def test_a_kernel_that_is_asked_for_while_another_thread_releases_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    prepare = QuantLayer._prepare

    def released(layer: QuantLayer, backend: Backend) -> Any:
        prepared = prepare(layer, backend)
        layer.release()
        return prepared

    monkeypatch.setattr(QuantLayer, "_prepare", released)
    assert low.kernel() is not None
    assert low(torch.randn(3, 64)).isfinite().all()


def test_a_branch_that_is_asked_for_first_prepares_the_layer() -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    low.release()
    down, up = low.branch(torch.float32)
    low(torch.randn(3, 64))
    assert all(torch.equal(a, b) for a, b in zip(low.branch(torch.float32), (down, up), strict=True))


@pytest.mark.usefixtures("fuses")
def test_a_skip_for_several_layers_is_refused() -> None:
    layers = [balanced(nn.Linear(64, 8), 4, seed)[0] for seed in (5, 6)]
    x, skip = torch.randn(3, 64), torch.randn(3, 8)
    with torch.no_grad():
        alone = layers[0](x)
        assert torch.equal(project(layers[:1], x, LinearFusion(skip=skip))[0], alone + skip)
        with pytest.raises(UsageError, match="a skip is added to the output of one layer, got 2"):
            project(layers, x, LinearFusion(skip=skip))
        with pytest.raises(UsageError, match="only layers whose kernels fuse take a fusion"):
            project([*layers, nn.Linear(64, 8)], x, LinearFusion(gated=True))
    with pytest.raises(UsageError, match="none does where gradients are recorded"):
        project(layers, x.clone().requires_grad_(), LinearFusion(gated=True))


def test_a_backend_that_is_preferred_later_takes_over() -> None:
    low, _ = balanced(nn.Linear(64, 8), 0, 5)
    low.kernel()
    low.prefer(reference)
    assert isinstance(low.kernel(), reference.Linear)


def test_the_reference_stands_in_where_a_backend_has_not_the_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    low, _ = balanced(nn.Linear(64, 8), 0, 5)
    backend = choose_backend(CPU)
    monkeypatch.setattr(backend, "supports", lambda *_: False)
    low.prepare(backend)
    assert isinstance(low.kernel(), reference.Linear)


def test_loaded_values_are_the_ones_that_compute() -> None:
    """They are copied into the buffers that the kernel was made from."""
    (low, other), x = [balanced(nn.Linear(64, 8), 4, 5)[0] for _ in range(2)], torch.randn(3, 64)
    with torch.no_grad():
        before, expected = low(x), other(x)
        low.load_state_dict(other.state_dict())
        assert torch.equal(low(x), expected)
    assert not torch.equal(before, expected)


def test_a_preferred_backend_is_kept_when_a_model_moves() -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    low.prefer(reference)
    assert isinstance(low.to("cpu").kernel(), reference.Linear)
    assert isinstance(copy.deepcopy(low).kernel(), reference.Linear)
    low._preferred = "triton"  # which the CPU cannot run
    assert isinstance(low.to("cpu").kernel(), choose_backend(CPU).Linear)


def exchanged(layer: QuantLayer) -> None:
    """Every buffer replaced past `_apply`, as a host's memory manager does that uploads them anew for every run."""
    for name, buffer in layer._buffers.items():
        layer._buffers[name] = None if buffer is None else buffer.clone()


@pytest.mark.parametrize("layer", [nn.Linear(32, 16), nn.Conv2d(32, 16, 3, padding=1)], ids=["linear", "convolution"])
def test_exchanged_buffers_are_the_ones_that_compute(layer: nn.Module) -> None:
    low, _ = balanced(layer, rank=4, seed=0)
    x = torch.randn(2, 32, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(3, 32)
    before, kernel = low(x), low.kernel()
    exchanged(low)
    assert torch.equal(low(x), before)
    assert low.kernel() is not kernel
    kernel = low.kernel()
    low(x)
    assert low.kernel() is kernel  # made once
    low._buffers["up"] = torch.zeros_like(low.up)
    assert not torch.equal(low(x), before)


@pytest.mark.parametrize("layer", [nn.Linear(32, 16), nn.Conv2d(32, 16, 3, padding=1)], ids=["linear", "convolution"])
def test_a_layer_that_moves_leaves_nothing_behind(layer: nn.Module) -> None:
    low, _ = balanced(layer, rank=4, seed=0)
    low.fuse_upsample = True
    x = torch.randn(1, 32, 6, 6)
    with torch.no_grad():
        low.forward_upsampled(x) if isinstance(layer, nn.Conv2d) else low.cached(x.view(1, -1, 32))
    low.to("cpu")
    kept = [value for name, value in vars(low).items() if name not in ("_buffers", "_parameters", "_modules")]
    assert not any(isinstance(v, torch.Tensor) or (isinstance(v, dict | tuple | list) and _holds(v)) for v in kept)
    assert low._prepared is None


def _holds(values: object) -> bool:
    inside = values.values() if isinstance(values, dict) else values
    return any(isinstance(v, torch.Tensor) or (isinstance(v, dict | tuple | list) and _holds(v)) for v in inside)
