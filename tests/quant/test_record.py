"""What a model is called with, as batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.quant.batches import call


@pytest.fixture
def pipeline() -> DDPMPipeline:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(16,), norm_num_groups=4, layers_per_block=1, **blocks).eval()
    made = DDPMPipeline(unet, DDPMScheduler())
    made.set_progress_bar_config(disable=True)
    return made


def test_a_pipelines_model_is_quantized_on_what_it_is_called_with(pipeline: DDPMPipeline) -> None:
    def run() -> Any:
        return pipeline(num_inference_steps=3, generator=torch.Generator().manual_seed(1), output_type="np").images

    images = run()
    with qf.record_calls(pipeline.unet) as batches:
        run()
    assert [int(batch[1]) for batch in batches] == [int(t) for t in pipeline.scheduler.timesteps]
    qf.quantize(pipeline.unet, batches, qf.QuantConfig(8, 8, rank=2))
    assert abs(run() - images).mean() < 0.02
    assert len(batches) == 3


@pytest.mark.parametrize("wrapped", [lambda model: model, partial(torch.compile, backend="eager")])
def test_arguments_are_told_by_name_where_one_is_given_so(wrapped: Callable[[nn.Module], nn.Module]) -> None:
    model, x = nn.Bilinear(2, 3, 4), torch.ones(5, 2, requires_grad=True)
    with qf.record_calls(given := wrapped(model)) as batches, torch.inference_mode():
        exact = given(x, input2=torch.ones(5, 3))
    assert list(batches[0]) == ["input1", "input2"]
    x.data.zero_()
    assert not batches[0]["input1"].requires_grad
    assert not batches[0]["input2"].is_inference()
    assert torch.equal(call(model, batches[0]), exact)


def test_a_whole_pipeline_is_no_model(pipeline: DDPMPipeline) -> None:
    with pytest.raises(UsageError, match="such as a pipeline's unet, got a DDPMPipeline"), qf.record_calls(pipeline):
        raise AssertionError


def test_arguments_without_names_are_refused_beside_named_ones() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor, /, by: float = 1.0) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x) * by

    class Passed(nn.Linear):
        def forward(self, *given: Any, **named: Any) -> torch.Tensor:
            return super().forward(*given)

    for model in (Scaled(2, 2), Passed(2, 2)):
        with qf.record_calls(model) as batches:
            model(torch.ones(1, 2))
            with pytest.raises(UsageError, match="is called with arguments by name beside others that have none"):
                model(torch.ones(1, 2), by=2.0)
        assert len(batches) == 1
        assert not model._forward_pre_hooks
