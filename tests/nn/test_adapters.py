"""The configuration of PEFT's adapters; what they train is tested with the layers."""

from __future__ import annotations

import re

import pytest

from quantface_core.nn.adapters import _config


@pytest.mark.parametrize("form", [r".*\.{}$", r"(.*\.)?({})$"])  # PEFT 0.12's and 0.21's
def test_a_rank_is_for_the_layer_of_its_name_alone(form: str) -> None:
    config = _config({"1": 8, "0.1": 4, "a.proj": 2})
    assert config.r == config.lora_alpha == 8
    names = ["1", "0.1", "0-1", "b.a.proj", "a.proj", "a.proj2"]
    matched = {
        name: rank for key, rank in config.rank_pattern.items() for name in names if re.match(form.format(key), name)
    }
    assert matched == {"0.1": 4, "a.proj": 2}
    assert config.alpha_pattern == config.rank_pattern
