"""Files of upscaling networks, such as Real-ESRGAN's, in any of the architectures that spandrel knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, one_line
from ..restorer.spandrel.architectures import import_spandrel
from ..restorer.upscaler import Upscaler
from ..runtime.device import usable_device
from .tensor_files import read_weights


def load_upscaler(path: str | Path, device: str | torch.device = "cpu") -> Upscaler:
    """Return the upscaler of a .pth or .safetensors file, on a device; on CUDA in float16 where its network allows.

    `device` is one of torch's, or "auto": a GPU if there is one. Only weights are read. Raises UsageError when `device`
    is not available; ModelError for a damaged file, an architecture that spandrel does not know, a network that does
    not enlarge RGB images, and without spandrel.
    """
    path, spandrel, device = Path(path), import_spandrel("spandrel", "an upscaler"), usable_device(device)
    tensors = read_weights(path)
    try:
        made = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
    except Exception as error:  # spandrel's classes may raise anything
        raise ModelError(f"{path}: not an upscaler that spandrel knows, or damaged ({one_line(error)})") from error
    name, channels = f"{made.architecture.name} ({made.purpose})", (made.input_channels, made.output_channels)
    if made.purpose != "SR" or made.scale < 2:
        raise ModelError(f"{path}: {name} does not enlarge photos: use an upscaling network, such as Real-ESRGAN")
    if channels != (3, 3):
        raise ModelError(f"{path}: {name} takes {channels[0]} channels and makes {channels[1]}, of which photos have 3")
    broken = next((name for name, weight in made.model.state_dict().items() if not torch.isfinite(weight).all()), None)
    if broken:
        raise ModelError(f"{path}: damaged, {broken} is not finite")
    half = device.type == "cuda" and made.supports_half
    made.to(device, torch.float16 if half else torch.float32)
    if device.type == "cpu":  # where convolutions are faster with channels last, the order that photos have too
        made.model.to(memory_format=torch.channels_last)
    return Upscaler(_Padded(made), made.scale).requires_grad_(False).eval()


class _Padded(torch.nn.Module):
    """Spandrel's network, whose inputs are padded to the sizes that it takes."""

    def __init__(self, described: Any) -> None:
        super().__init__()
        self.model, self._described = described.model, described

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self._described(x)
        return made
