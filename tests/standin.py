"""A device that computes nothing and mixes with no other: what a GPU refuses is refused on any machine.

    python -m tests.standin

prints, as JSON, how each of FLOWS ends on it: "" or an error. Torch registers such a device for the life of a process,
so tests run this in one of their own. Its tensors have shapes and no numbers; what asks for some gets made-up ones.
"""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration

from quantface_core.quant import observe
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.distill import distill, distill_blocks
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from quantface_core.stages.sensitivity import measure_sensitivity
from quantface_core.train import distill as train_distill
from quantface_core.types import RestorerDistillConfig, RestorerQuantConfig, TrainerConfig
from tests.conftest import FAST, TINY

NAME = "standin"
TRAINING = RestorerDistillConfig(
    TrainerConfig(steps=1, batch_size=1, validate_every=1, save_every=1),
    rank=2,
    merge_rank=4,
    learn_clips=True,
    perceptual="ssim",
    precision="float32",
)
# Convolutions, a transformer with all its ways to fold, an edge; and fewer, where each is tried many times.
SOME = ("unet.conv_in", "unet.down_blocks.1.resnets.0", "unet.down_blocks.1.attentions.0", "vae.decoder.mid_block")
FEW = ("unet.conv_in", "unet.down_blocks.1.resnets.0.conv1", f"{SOME[2]}.transformer_blocks.0.attn1")


def restore(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    with torch.inference_mode():
        for model in (full, low):
            model(faces.to(model.device))


def quantize(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    quantize_restorer(full, some(calibrate_restorer(full, faces[:1]), FEW), faces[:1], RestorerQuantConfig(rank=4))
    assert {t.device.type for t in full.state_dict().values()} == {NAME}


def allocate(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    measure_sensitivity(full, some(calibrate_restorer(full, faces[:1]), FEW), faces[:1], FAST, "ssim")


def train(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    distill(low, full, faces[:2], faces[2:], TRAINING)
    assert {t.device.type for t in low.state_dict().values()} == {NAME}


def train_blocks(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    distill_blocks(low, full, faces, TRAINING)
    assert {t.device.type for t in low.state_dict().values()} == {NAME}


def mix(full: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    """Ends in an error, or the device is none."""
    full(faces)


FLOWS = (restore, allocate, train, train_blocks, mix, quantize)  # the last changes the first model
CHANGES_LOW = (train, train_blocks)


def some(statistics: dict[str, Any], names: tuple[str, ...] = SOME) -> dict[str, Any]:
    return {name: value for name, value in statistics.items() if name.startswith(names)}


def main() -> None:
    torch.set_num_threads(1)  # shapes alone are many small steps
    torch.manual_seed(0)
    observe.output_fisher = train_distill.output_fisher = identity
    full = OneStepRestorer(TINY).eval().requires_grad_(False)
    faces, low = torch.rand(4, 3, 64, 64) * 2 - 1, copy.deepcopy(full)
    quantize_restorer(low, some(calibrate_restorer(low, faces[:1])), faces[:1], FAST)
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    make_up_numbers()
    endings, trained = {}, {flow: copy.deepcopy(low) for flow in CHANGES_LOW}
    with FakeTensorMode(allow_non_fake_inputs=True):
        full, low = to_device(full), to_device(low)
        trained = {flow: to_device(model) for flow, model in trained.items()}
        for flow in FLOWS:
            endings[flow.__name__] = ending(flow, full, trained.get(flow, low), faces)
    print(json.dumps(endings))


def ending(flow: Callable[..., None], *arguments: Any) -> str:
    try:
        flow(*arguments)
    except Exception:
        return traceback.format_exc()
    return ""


def to_device(model: OneStepRestorer) -> OneStepRestorer:
    """As `model.to`, which real tensors refuse where there is no such device."""
    return model._apply(lambda t: torch.empty_like(t, device=NAME))


def make_up_numbers() -> None:
    """Patch, for good, what asks a tensor for its numbers or for a copy of them on the device."""
    for name, answer in {
        "__bool__": lambda t: False,
        "__float__": lambda t: 1.0,
        "__int__": lambda t: 1,
        "__index__": lambda t: 1,
        "item": lambda t: 1,
        "tolist": lambda t: np.ones(t.shape).tolist(),
        "numpy": array,
    }.items():
        setattr(Tensor, name, unless_fake(getattr(Tensor, name), answer))
    tensor, to = torch.tensor, Tensor.to
    torch.isfinite = lambda t: np.True_
    torch.equal = lambda a, b: a.device == b.device

    def made(data: Any, *, dtype: Any = None, device: Any = None, **more: Any) -> Tensor:
        plain = tensor(data, dtype=dtype, **more)
        return empty(plain.shape, plain.dtype) if on_device(device) else plain

    def moved(t: Tensor, *given: Any, **named: Any) -> Tensor:
        asked = [x for one in given for x in ((one.device, one.dtype) if isinstance(one, Tensor) else (one,))]
        asked += named.values()
        dtype = next((x for x in asked if isinstance(x, torch.dtype)), t.dtype)
        if not any(on_device(x) for x in asked) or on_device(t.device):
            return to(t, *given, **named)
        return empty(t.shape, dtype)

    torch.tensor, Tensor.to, nn.Module._apply = made, moved, apply  # type: ignore[method-assign]


def empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float64:
        raise TypeError("Apple's GPUs have no float64")
    return torch.empty(shape, dtype=dtype, device=NAME)


def identity(
    model: nn.Module, batches: Any, layers: dict[str, Any], forward: Callable[..., Any], *more: Any
) -> dict[str, Tensor]:
    """In place of `output_fisher`: autograd has no thread for this device before a first backward of its own."""
    with torch.no_grad():
        for batch in batches:
            forward(model, batch)
    return {name: torch.eye(layer.weight.shape[0]).half() for name, layer in layers.items()}


def on_device(asked: Any) -> bool:
    return isinstance(asked, str | torch.device) and torch.device(asked).type == NAME


def unless_fake(plain: Callable[..., Any], answer: Callable[[Tensor], Any]) -> Callable[..., Any]:
    return lambda t, *more, **named: answer(t) if isinstance(t, FakeTensor) else plain(t, *more, **named)


def array(t: Tensor) -> np.ndarray:
    if on_device(t.device):
        raise TypeError("numpy() of a tensor that is not on the processor")
    return np.zeros(t.shape, str(t.dtype).removeprefix("torch."))


def apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` without its swaps of what a parameter holds, which tensors without numbers refuse."""
    for child in module.children():
        child._apply(fn)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(fn(parameter.data), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


if __name__ == "__main__":
    main()
