"""What training may be asked for: every setting is checked here, before anything is computed."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from ..errors import UsageError
from ..kernels.dispatch import fast_dtype
from ..types import PRECISIONS, DistillSettings, TrainerSettings

_FROM_ONE = {"steps", "batch_size", "accumulation", "validate_every", "save_every"}  # other numbers: from 0
_LARGEST_COUNT = 2**43 - 1  # of a seed: beside an epoch's bits, and exact in float64
_LARGEST_NUMBER = 1e30  # of a learning rate: AdamW divides it, in float32
_ONE_STEP = ("latent_weight", "prompt_weight", "perceptual", "perceptual_weight", "checkpointing")


def check_settings(settings: TrainerSettings | DistillSettings) -> None:
    """Raise UsageError naming the fields that are out of bounds, or no number where one has to be."""
    wrong = []
    for field in fields(settings):
        value, whole = getattr(settings, field.name), type(field.default) is int
        if not whole and type(field.default) is not float:
            continue
        least, most = (int(field.name in _FROM_ONE), _LARGEST_COUNT) if whole else (0, _LARGEST_NUMBER)
        number = type(value) is int or (isinstance(value, float) and not whole)
        if not number or not least <= value <= most:
            kind = "whole number" if whole else "number"
            wrong.append(f"{field.name} is a {kind} from {least} to {most}, got {value!r:.40}")
    if wrong:
        raise UsageError("; ".join(wrong))
    if isinstance(settings, TrainerSettings) and (settings.learning_rate == 0 or settings.ema >= 1):
        raise UsageError("the learning rate is above 0, the averaging from 0 to below 1")


def resolved(settings: DistillSettings, device: torch.device) -> DistillSettings:
    """The settings as a device trains with them: an automatic precision is the one that it means.

    A processor without bfloat16 takes ten times as long to compute in it. Raises UsageError for what is out of bounds
    or unknown.
    """
    check_settings(settings.trainer)
    check_settings(settings)
    if settings.precision not in PRECISIONS:
        raise UsageError(f"precision is one of {', '.join(PRECISIONS)}, got {settings.precision!r}")
    if settings.precision != "auto":
        return settings
    return replace(settings, precision=str(fast_dtype(device)).removeprefix("torch."))


def refuse_settings_of_one_step_restorers(settings: DistillSettings) -> None:
    """Raise UsageError naming those that are not at their default."""
    plain = DistillSettings()
    given = [name for name in _ONE_STEP if getattr(settings, name) != getattr(plain, name)]
    if given:
        raise UsageError(f"{', '.join(given)}: settings of one-step restorers alone, leave them at their defaults")
