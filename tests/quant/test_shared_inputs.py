"""Layers that share an input, and those that seem to."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

import quantface_core as qf


class Attending(nn.Module):
    """An attention whose class says nothing of a context, and that is given one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn = Attention(query_dim=64, heads=2, dim_head=32)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.attn(x, encoder_hidden_states=context)  # type: ignore[no-any-return]


@pytest.mark.parametrize("has_context", [True, False])
def test_keys_and_values_are_searched_on_what_they_read(has_context: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 64, 64, generator=generator).relu(), torch.randn(2, 64, 64, generator=generator)
    batch, model = (x, context) if has_context else (x,), Attending().eval()
    exact = {name: getattr(model.attn, name)(batch[-1]).detach() for name in ("to_k", "to_v")}
    reports = {report.name: report for report in qf.quantize(model, [batch], qf.QuantConfig(rank=0))}
    for name, wanted in exact.items():
        error = (getattr(model.attn, name)(batch[-1]) - wanted).square().mean() / wanted.square().mean()
        assert float(error) == pytest.approx(reports[f"attn.{name}"].error_after, rel=0.05)
        assert float(error) < 0.03
    points = [reports[f"attn.{name}"].format.zero_point for name in ("to_q", "to_k", "to_v")]
    assert points[1] == points[2]
    assert (points[0] == points[1]) != has_context  # one input is rounded once, for all


def test_an_attention_without_its_class_s_attributes_is_quantized() -> None:
    """HiDream's skips the constructor of its class: looking for a context raised an AttributeError."""

    class Own(Attention):
        def __init__(self) -> None:
            super(Attention, self).__init__()
            self.to_q, self.to_k, self.to_v = (nn.Linear(64, 64) for _ in range(3))
            self.processor = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.to_q(x) + self.to_k(x) * self.to_v(x)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = nn.Sequential(Own()).eval()
    reports = qf.quantize(model, [torch.randn(2, 64, 64)], qf.QuantConfig(rank=0))
    assert [report.name for report in reports] == ["0.to_q", "0.to_k", "0.to_v"]
    assert len({report.format.seed for report in reports}) == 1
