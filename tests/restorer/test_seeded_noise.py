"""Noise of an image is of its seed alone."""

from __future__ import annotations

import torch

from quantface_core.restorer.seeded_noise import seeded_noise


def test_noise_depends_on_the_seed_not_the_batch() -> None:
    shapes = [(1, 4, 4), (2, 3)]
    together = seeded_noise([3, 9, 3], shapes)
    assert [tuple(t.shape) for t in together] == [(3, 1, 4, 4), (3, 2, 3)]
    alone = seeded_noise([9], shapes)
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1], one[0])
        assert torch.equal(many[0], many[2])
        assert not torch.equal(many[0], many[1])


def test_shapes_continue_one_draw() -> None:
    drawn = seeded_noise([5], [(4,), (4,)])
    assert torch.equal(torch.cat(drawn, dim=1)[0], torch.randn(8, generator=torch.Generator().manual_seed(5)))
