"""Training configurations: the precision that a device trains in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quantface_core.errors import UsageError
from quantface_core.train import settings
from quantface_core.train.settings import resolved
from quantface_core.types import DistillConfig, QuantConfig, TrainerConfig


def test_a_processor_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has none, a step in it takes ten times as long."""
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda native=native: native, raising=False)
        assert resolved(DistillConfig(), torch.device("cpu")).precision == expected
        assert resolved(DistillConfig(precision="bfloat16"), torch.device("cpu")).precision == "bfloat16"


def test_a_precision_without_autocast_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    for precision in ("float16", "bfloat16"):
        assert resolved(DistillConfig(precision=precision), device).precision == precision
    autocast = torch.autocast
    monkeypatch.setattr(settings.torch, "autocast", lambda kind, _: autocast(kind, torch.bfloat16))
    with pytest.raises(UsageError, match="cannot train in float16 on cpu"):
        resolved(DistillConfig(precision="float16"), device)


@pytest.mark.parametrize("config", [TrainerConfig(steps=3), QuantConfig(), DistillConfig(400), 400])
def test_another_config_is_refused(config: Any) -> None:
    with pytest.raises(UsageError, match=r"DistillConfig\(TrainerConfig"):
        resolved(config, torch.device("cpu"))
