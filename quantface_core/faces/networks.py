"""The small networks bundled with the package: read from their safetensors files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError
from ..runtime.autocast import without_autocast

Network = TypeVar("Network", bound=nn.Module)


class Residual(nn.Module):
    """Two 3x3 convolutions [B, width, H, W] -> the same shape, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


def load_network(make: Callable[[], Network], path: Path) -> Network:
    """The network that `make` returns with the weights of a file: float32 on the CPU, whatever torch's defaults are.

    Draws no random numbers. Raises ModelError.
    """
    with torch.device("meta"):
        network = make()
    with torch.device("cpu"):  # safetensors before 0.6.1 follows torch's default device too
        try:
            network.load_state_dict({name: t.float() for name, t in load_file(path).items()}, assign=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            name = type(network).__name__
            raise ModelError(f"{path} does not hold a {name}, or is damaged: reinstall QuantFace") from error
    # An image's pixels are channels last too: on a CPU a fifth faster, apart from 1e-6 the same.
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def as_input(image: NDArray[np.float32], stride: int) -> Tensor:
    """An image [h, w, 3] as [1, 3, H, W]: its last pixels are repeated up to sides that are multiples of `stride`."""
    padding = (0, -image.shape[1] % stride, 0, -image.shape[0] % stride)
    return F.pad(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None], padding, mode="replicate")


@contextmanager
def exactly() -> Iterator[None]:
    """Context manager in which such a network computes: without gradients, in float32 also where a host autocasts."""
    with torch.inference_mode(), without_autocast(torch.device("cpu")):
        yield
