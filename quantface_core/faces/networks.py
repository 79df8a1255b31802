"""The small networks bundled with the package: read from their safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import ModelError

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: Path) -> Network:
    """Give a network the weights of a file, in float32 whatever torch's default dtype is. Raises ModelError."""
    network = network.float()
    try:
        network.load_state_dict({name: t.float() for name, t in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        name = type(network).__name__
        raise ModelError(f"{path} does not hold a {name}, or is damaged: reinstall QuantFace") from error
    return network.requires_grad_(False).eval()
