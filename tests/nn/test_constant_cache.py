"""What is made of a constant input is kept on a GPU; a stand-in for the device, whose tensors have no numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantface_core.kernels import reference
from quantface_core.nn.constant_cache import ConstantCache, constant_caches
from quantface_core.nn.swap import empty_like, prepare, quantizable, swap
from quantface_core.types import LayerFormat


@torch.no_grad()
def test_a_result_is_kept_till_its_weights_are_others() -> None:
    layer, cache, made = nn.Linear(4, 3), ConstantCache(), []
    x = torch.randn(1, 4, device="meta")

    def compute(x: Tensor) -> Tensor:
        made.append(torch.empty(len(x), 3, device="meta"))
        return made[-1]

    assert cache(x, (layer,), compute) is cache(torch.empty_like(x), (layer,), compute)
    layer.weight = nn.Parameter(layer.weight.clone())
    cache(x, (layer,), compute)
    layer.weight.mul_(2)
    cache(x, (layer,), compute)
    assert len(made) == 3
    low = nn.Sequential(nn.Linear(16, 8)).requires_grad_(False)
    swap(low, {"0": empty_like(quantizable(low)["0"], LayerFormat(4, 4))})
    for _ in range(2):
        prepare(low, reference)
        for _ in range(2):
            cache(x, tuple(low), compute)
    assert len(made) == 5


@torch.no_grad()
def test_one_row_serves_batches_of_any_size() -> None:
    """A graph of one face goes on reading it after a batch."""
    cache, x = ConstantCache(), torch.randn(1, 4, device="meta")
    one = cache(x.expand(3, -1), (), lambda x: x + 1)
    assert one.shape == (1, 4)
    assert cache(x, (), lambda x: x + 1) is one


def test_nothing_is_kept_on_a_processor_nor_for_gradients() -> None:
    cache = ConstantCache()
    with torch.no_grad():
        assert cache(torch.ones(2, 4), (), lambda x: x + 1).shape == (2, 4)
    cache(torch.ones(2, 4, device="meta"), (), lambda x: x + 1)
    assert cache.cached is None


def test_a_model_s_caches_are_found_and_copies_start_empty() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].cache = ConstantCache()
    assert constant_caches(model) == [model[0].cache]
