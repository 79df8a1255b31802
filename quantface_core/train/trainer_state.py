"""What a training run's saved state has to hold, and which run's it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError, some
from ..types import TrainerSettings

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's of a parameter; none before it has had a gradient
_FREE = {"save_every"}  # of the settings: what is trained does not follow from it
_Shape = tuple[int | None, ...]  # None = any


def settings_state(settings: TrainerSettings, count: int, processes: int) -> dict[str, Tensor]:
    """What a run follows from, `count` images among it, as scalars, float64, which holds every seed exactly."""
    numbers = {**asdict(settings), "images": count, "processes": processes}
    return {f"settings.{n}": torch.tensor(x, dtype=torch.float64) for n, x in numbers.items() if n not in _FREE}


def check_state(
    state: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], settings: Mapping[str, Tensor]
) -> None:
    """Raise UsageError naming by what a state is another run's, ModelError naming what it lacks or what is damaged.

    `settings` are the `settings_state` of the run that is to go on.
    """
    _require(state, dict.fromkeys(settings, ()))
    for key, wanted in settings.items():
        if float(state[key]) != float(wanted):
            name = key.removeprefix("settings.")
            raise UsageError(
                f"the saved state is of another run ({name} {float(state[key]):.15g}, not {float(wanted):.15g}): "
                "go on with its settings, or begin anew"
            )
    saved = {n.removeprefix("parameter."): t.shape for n, t in state.items() if n.startswith("parameter.")}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    other = [name for name in {**shapes, **saved} if saved.get(name) != shapes.get(name)]
    if other:
        raise UsageError(f"the saved state is of another run ({other[0]}): go on with its settings, or begin anew")
    kinds = ["average", "best"] if any(name.startswith("best.") for name in state) else ["average"]
    needed: dict[str, _Shape] = {"losses": (None,), "scores": (None, 2)}
    for name, shape in shapes.items():
        needed |= {f"{kind}.{name}": shape for kind in kinds}
        if any(f"{moment}.{name}" in state for moment in MOMENTS):
            needed |= {f"{moment}.{name}": () if moment == "step" else shape for moment in MOMENTS}
    _require(state, needed)


def _require(state: Mapping[str, Tensor], needed: Mapping[str, _Shape]) -> None:
    lacking = [name for name in needed if name not in state]
    if lacking:
        raise ModelError(f"the saved state lacks {some(lacking)}: delete it to begin anew")
    damaged = [name for name, shape in needed.items() if not _fits(state[name].shape, shape)]
    if damaged:
        raise ModelError(f"the saved state is damaged ({some(damaged)}): delete it to begin anew")


def _fits(shape: _Shape, wanted: _Shape) -> bool:
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))
