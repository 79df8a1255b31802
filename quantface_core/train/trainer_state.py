"""Check a training run's saved state: whether it is complete, and whether it belongs to the run to resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError, first_few
from ..types import TrainerConfig

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's for a parameter; absent before its first gradient
SCALER = {"scale": float, "_growth_tracker": int}  # of GradScaler: what changes from step to step
_FREE = {"save_every"}  # settings that may differ: the result does not depend on them
_Shape = tuple[int | None, ...]  # None = any


def settings_state(config: TrainerConfig, count: int, processes: int) -> dict[str, Tensor]:
    """The config that determines a run, with `count` images and processes: float64 scalars, exact for every seed."""
    numbers = {**asdict(config), "images": count, "processes": processes}
    return {f"settings.{n}": torch.tensor(x, dtype=torch.float64) for n, x in numbers.items() if n not in _FREE}


def check_state(
    state: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    settings: Mapping[str, Tensor],
    scaled: bool = False,
) -> None:
    """Raise UsageError naming how a state differs from this run's, ModelError naming what it lacks or what is damaged.

    `settings` is the `settings_state` of the run to resume, `scaled` whether that run scales its loss.
    """
    _require(state, dict.fromkeys(settings, ()))
    for key, wanted in settings.items():
        if float(state[key]) != float(wanted):
            name = key.removeprefix("settings.")
            raise UsageError(
                f"the saved state is from another run ({name} {float(state[key]):.15g}, not {float(wanted):.15g}): "
                "resume with its settings, or start over"
            )
    saved = {n.removeprefix("parameter."): t.shape for n, t in state.items() if n.startswith("parameter.")}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    other = [name for name in {**shapes, **saved} if saved.get(name) != shapes.get(name)]
    if other:
        raise UsageError(f"the saved state is from another run ({other[0]}): resume with its settings, or start over")
    kinds = ["average", "best"] if any(name.startswith("best.") for name in state) else ["average"]
    needed: dict[str, _Shape] = {"losses": (None,), "scores": (None, 2)}
    if scaled:
        needed |= dict.fromkeys((f"scaler.{key}" for key in SCALER), ())
    for name, shape in shapes.items():
        needed |= {f"{kind}.{name}": shape for kind in kinds}
        if any(f"{moment}.{name}" in state for moment in MOMENTS):
            needed |= {f"{moment}.{name}": () if moment == "step" else shape for moment in MOMENTS}
    _require(state, needed)


def _require(state: Mapping[str, Tensor], needed: Mapping[str, _Shape]) -> None:
    lacking = [name for name in needed if name not in state]
    if lacking:
        raise ModelError(f"the saved state lacks {first_few(lacking)}: delete it to start over")
    damaged = [name for name, shape in needed.items() if not _fits(state[name].shape, shape)]
    if damaged:
        raise ModelError(f"the saved state is damaged ({first_few(damaged)}): delete it to start over")


def _fits(shape: _Shape, wanted: _Shape) -> bool:
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))
