"""What a full-size face costs a GPU, counted without one: budgets, and nothing that a graph cannot capture."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from gpu_launches import recorded, totals
from gpu_model import CARDS, modelled
from gpu_recorder import Launch

_LAUNCHES, _GIGABYTES = 1320, 17.6  # of a face; one pass more over every map would be 4 more


@pytest.fixture(scope="module")
def low() -> list[Launch]:
    return recorded("w4a4", 28)


def test_a_face_keeps_to_its_budget(low: list[Launch]) -> None:
    found = totals(low)
    assert found["all"]["launches"] <= _LAUNCHES
    assert found["all"]["GB"] <= _GIGABYTES
    assert found["all"]["int8 GMAC"] == pytest.approx(2008, rel=0.01)
    assert all(found[part]["int8 GMAC"] > 90 for part in ("embedder", "encoder", "unet", "decoder"))


def test_inputs_are_rounded_once_and_weights_stay_unpacked(low: list[Launch]) -> None:
    """A rounding an input; a product for all layers that read the same codes; weights that stay unpacked."""
    ours = Counter(one.name for one in low if one.kind == "triton")
    assert ours["conv2d"] + ours["conv2d_joined"] == ours["_image_codes"] == ours["_balanced"]
    assert ours["linear"] == ours["_tokens"]
    assert ours["_unpacked"] == 0
    assert not [one for one in low if one.layer.startswith("unet.time_embedding") or "time_emb_proj" in one.layer]


def test_no_part_of_a_face_synchronizes_with_the_host(low: list[Launch]) -> None:
    """No part waits for the device, or makes a tensor of a number that the host holds."""
    full = recorded("bf16", 28)
    assert [one for one in (*low, *full) if one.kind == "host"] == []
    assert totals(full)["all"]["launches"] < 1500


@pytest.mark.parametrize("name", ["RTX 3060", "RTX 4060 Ti", "RTX 4090"])
def test_modelled_low_bit_time_is_below_0_6_of_bfloat16(name: str) -> None:
    """A model's figure: nothing here is measured."""
    full, low = (modelled(bits, CARDS[name])[0].total() for bits in ("bf16", "w4a4"))
    assert low < 0.6 * full
