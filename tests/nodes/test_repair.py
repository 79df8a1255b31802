"""Repair Scratches: the whole image, its transparency, within a mask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.nodes.conftest import Cancelled
from tests.scratched import as_print, scratched


@pytest.fixture
def repair(nodes: dict[str, Any]) -> Any:
    def run(image: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[Any, ...]:
        result = nodes["QuantFace_RepairScratches"].execute(image=image, mask=mask)
        return (*result.args, result.ui)

    return run


@pytest.fixture(scope="module")
def print_(astronaut: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A damaged print [1, 512, 512, 3], what it shows, and where the damage is [512, 512]."""
    whole = as_print(astronaut)
    bad, where = scratched(whole)
    return *(torch.from_numpy(x / np.float32(255))[None] for x in (bad, whole)), torch.from_numpy(where)


def test_scratches_are_repaired_and_shown(repair: Any, print_: Any) -> None:
    bad, whole, where = print_
    image, found, ui = repair(bad)
    assert image.shape == bad.shape
    assert found.shape == (1, 512, 512)
    assert float((found[0][where] > 0.5).float().mean()) > 0.8
    assert (image - whole)[0][where].abs().mean() < 0.3 * (bad - whole)[0][where].abs().mean()
    assert torch.equal(image[found == 0], bad[found == 0])
    assert len(ui["quantface_before"][0]) == len(ui["quantface_after"]) == 1
    assert ui["quantface_notes"] == [[]]


def test_only_within_the_mask(repair: Any, print_: Any) -> None:
    bad, _, where = print_
    mask = torch.zeros(1, 512, 512)
    mask[:, :, :256] = 1
    image, found, _ = repair(bad, mask)
    assert torch.equal(image[:, :, 256:], bad[:, :, 256:])
    assert found[:, :, 256:].max() == 0
    assert float((found[0, :, :250][where[:, :250]] > 0.5).float().mean()) > 0.8


def test_a_batch_keeps_its_transparency(repair: Any, print_: Any) -> None:
    bad = print_[0]
    plain = torch.full_like(bad, 0.4)
    alpha = torch.rand(2, 512, 512, 1, generator=torch.Generator().manual_seed(0))
    batch = torch.cat([torch.cat([plain, bad]), alpha], -1)
    image, found, ui = repair(batch)
    assert torch.equal(image[..., 3], batch[..., 3])
    assert torch.equal(image[0], batch[0])
    assert found[0].max() == 0
    assert torch.equal(image[1, ..., :3], repair(bad)[0][0])
    assert ui["quantface_notes"] == [[]]


def test_nothing_found_is_told(repair: Any, print_: Any) -> None:
    plain = torch.full((1, 64, 64, 3), 0.4)
    assert repair(plain)[2]["quantface_notes"] == [["no scratches found"]]
    assert repair(print_[0], torch.zeros(1, 512, 512))[2]["quantface_notes"] == [["no scratches found within the mask"]]


def test_bad_input_is_named(repair: Any) -> None:
    with pytest.raises(Exception, match="NaN"):
        repair(torch.full((1, 64, 64, 3), float("nan")))
    with pytest.raises(Exception, match="mask: 2 for a batch of 3"):
        repair(torch.zeros(3, 64, 64, 3), torch.ones(2, 64, 64))


def test_cancelling_ends_it(repair: Any, print_: Any, host: SimpleNamespace) -> None:
    host.cancelled = True
    with pytest.raises(Cancelled):
        repair(print_[0])
