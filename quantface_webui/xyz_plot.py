"""Axes of the host's X/Y/Z plot: the values of our settings page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quantface_core.io.model_menu import choice_path, strip_mark
from quantface_core.options import COLORS

from . import host
from .generation import NAME
from .restore import choices
from .settings import NAMES, Settings, infotext_name, read_settings

_PLOT = "xyz_grid.py"  # the host's script


def add_axes() -> None:
    """For `on_before_ui`, when the host's scripts are loaded and their controls are not yet made."""
    from modules import scripts

    offered = {"model": lambda: [strip_mark(name) for name in choices()], "color": lambda: list(COLORS)}
    for plot in (script.module for script in scripts.scripts_data if Path(script.path).name == _PLOT):
        known = {axis.label for axis in plot.axis_options}
        for name in NAMES:
            kind = float if isinstance(getattr(Settings(), name), float) else str  # of floats, ranges may be given
            if infotext_name(name) not in known:
                axis = plot.AxisOption(
                    infotext_name(name), kind, _apply(name), confirm=_confirm(name), choices=offered.get(name)
                )
                plot.axis_options.append(axis)


def _apply(name: str) -> Callable[[Any, Any, Sequence[Any]], None]:
    def apply(p: Any, x: Any, xs: Sequence[Any]) -> None:
        """Restore a cell's faces with this value, whatever the page says."""
        p.restore_faces = True
        p.override_settings = {**p.override_settings, "face_restoration_model": NAME, f"quantface_{name}": x}

    return apply


def _confirm(name: str) -> Callable[[Any, Sequence[Any]], None]:
    def confirm(p: Any, xs: Sequence[Any]) -> None:
        """Raises QuantFaceError for a value that no cell could be restored with, before the first is generated."""
        for x in xs:
            choice_path(read_settings({name: x}).model, host.model_file)

    return confirm
