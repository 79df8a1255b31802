"""Check training configurations, all of them before anything is computed."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from typing import TypeVar

import torch

from ..errors import UsageError
from ..kernels.dispatch import fast_dtype
from ..types import TRAINING_PRECISIONS, DistillConfig, TrainerConfig, is_number, is_whole

_FROM_ONE = {"steps", "batch_size", "accumulation", "validate_every", "save_every"}  # at least 1; all others at least 0
_LARGEST_COUNT = 2**43 - 1  # bounded by the seed: it shares 63 bits with an epoch, and is exact in float64
_LARGEST_NUMBER = 1e30  # bounded by the learning rate: AdamW divides it, in float32

_Config = TypeVar("_Config", bound=TrainerConfig | DistillConfig)
_Distill = TypeVar("_Distill", bound=DistillConfig)


def checked(config: _Config) -> _Config:
    """The config with its numbers as Python's own: NumPy's are accepted, JSON cannot hold them.

    Raises UsageError naming the fields that are out of bounds or, where they must be, not numbers.
    """
    wrong, numbers = [], {}
    for field in fields(config):
        value, kind = getattr(config, field.name), type(field.default)
        if kind not in (int, float):
            continue
        whole = kind is int
        least, most = (int(field.name in _FROM_ONE), _LARGEST_COUNT) if whole else (0, _LARGEST_NUMBER)
        if (is_whole if whole else is_number)(value) and least <= value <= most:
            numbers[field.name] = kind(value)
        else:
            words = "whole number" if whole else "number"
            wrong.append(f"{field.name} is a {words} from {least} to {most}, got {value!r:.40}")
    if wrong:
        raise UsageError("; ".join(wrong))
    if isinstance(config, TrainerConfig) and (config.learning_rate == 0 or config.ema >= 1):
        raise UsageError("learning_rate must be above 0, ema from 0 to below 1")
    return replace(config, **numbers)


def resolved(config: _Distill, device: torch.device) -> _Distill:
    """The config, checked, with `precision` "auto" replaced by the one that the device trains in.

    A CPU without native bfloat16 would take ten times as long in it. Raises UsageError for values that are out of
    bounds or unknown, and for a precision that the device has no autocast for.
    """
    if not isinstance(config, DistillConfig) or not isinstance(config.trainer, TrainerConfig):
        raise UsageError(
            f"a config is a DistillConfig, such as DistillConfig(TrainerConfig(steps=100)), got {config!r:.40}"
        )
    config = replace(checked(config), trainer=checked(config.trainer))
    if config.precision not in TRAINING_PRECISIONS:
        raise UsageError(f"precision is one of {', '.join(TRAINING_PRECISIONS)}, got {config.precision!r}")
    if config.precision == "auto":
        return replace(config, precision=str(fast_dtype(device)).removeprefix("torch."))
    if config.precision != "float32" and not _has_autocast(device, getattr(torch, config.precision)):
        raise UsageError(f"torch cannot train in {config.precision} on {device.type}: choose auto or float32")
    return config


def _has_autocast(device: torch.device, dtype: torch.dtype) -> bool:
    one = torch.ones(1, 1, dtype=torch.float32, device=device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a device without the dtype may warn and switch autocast off
            with torch.autocast(device.type, dtype):
                return (one @ one).dtype == dtype
    except RuntimeError:
        return False
