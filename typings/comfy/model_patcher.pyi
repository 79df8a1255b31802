from typing import Any

import torch

class ModelPatcher:
    model: Any  # what it was made of
    def __init__(self, model: torch.nn.Module, load_device: torch.device, offload_device: torch.device) -> None: ...
