"""SHA-256 of what models are made from, by which files note it and runs are told apart: images and weights."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def images_sha256(images: Tensor) -> str:
    """SHA-256 of the bytes of a float tensor [N, 3, S, S], which identifies calibration images in a file's notes."""
    digest = hashlib.sha256()
    for image in images.detach():  # one by one, without a copy of them all
        digest.update(image.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers: their names and bytes."""
    return _sha256_of_state(model, None)


def source_sha256(model: nn.Module) -> str:
    """SHA-256 of the weights that a low-bit model is made from, the same in float32 and in bfloat16.

    Nodes compute in either, so floats are rounded to bfloat16 first.
    """
    return _sha256_of_state(model, torch.bfloat16)


def _sha256_of_state(model: nn.Module, dtype: torch.dtype | None) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        exact = tensor.detach().to(dtype) if dtype and tensor.is_floating_point() else tensor.detach()
        digest.update(exact.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
