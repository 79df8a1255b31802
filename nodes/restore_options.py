"""How faces are restored: the inputs that nodes for images and for videos share, and the options they come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..quantface_core.options import COLORS, UPSCALES, RestoreOptions
from .fr_model import FRModel
from .host import advanced

BLENDS = ["auto", "strength"]
_STRENGTH = 1.0  # of a node to which nothing was changed
_SEEDS = 2**53  # what a page can hold exactly, and more than other nodes' seeds come to


def strength_input() -> io.Input:
    return io.Float.Input("strength", default=_STRENGTH, min=0.0, max=1.0, step=0.05,
                          tooltip="For blend = strength: 0 leaves the image as it was, 1 restores fully.")  # fmt: skip


def color_input() -> io.Input:
    return io.Combo.Input("color", options=list(COLORS), default=RestoreOptions.color,
                          tooltip="How restored faces are matched to the image's colours.")  # fmt: skip


def upscale_input() -> io.Input:
    return io.Combo.Input("upscale", options=[str(factor) for factor in UPSCALES], default="1",
                          tooltip="Also enlarge the image (Lanczos); faces are restored at that size.")  # fmt: skip


def feather_input() -> io.Input:
    return advanced(io.Float.Input("feather", default=RestoreOptions.feather, min=0.0, max=1.0, step=0.02,
                                   tooltip="How softly a face blends into the image: 0 = a hard edge, "
                                   "1 = fading from its centre on."))  # fmt: skip


def batch_size_input() -> io.Input:
    return advanced(io.Int.Input("batch_size", default=0, min=0, max=64,
                                 tooltip="Faces at once: 0 = as many as are fast on your device. Fewer need less "
                                 "memory; the image is the same except for rounding."))  # fmt: skip


def blend_input() -> io.Input:
    return io.Combo.Input("blend", options=BLENDS, default="auto",
                          tooltip="auto: uses each restored face where it helps, pixel by pixel, and leaves sharp "
                          "faces as they are. strength: the same amount everywhere, as set in strength.")  # fmt: skip


def seed_input() -> io.Input:
    return advanced(io.Int.Input("seed", default=-1, min=-1, max=_SEEDS - 1, optional=True,
                                 control_after_generate=False,
                                 tooltip="-1: the same image gives the same result. From 0 on: the model samples "
                                 "randomly, with this seed."))  # fmt: skip


def fidelity_input() -> io.Input:
    return advanced(io.Float.Input("fidelity", default=0.5, min=0.0, max=1.0, step=0.05, optional=True,
                                   tooltip="CodeFormer only: 0 looks best, 1 stays nearest to the image. Other "
                                   "models have no such setting."))  # fmt: skip


def grain_input() -> io.Input:
    return advanced(io.Float.Input("grain", default=RestoreOptions.grain, min=0.0, max=1.0, step=0.05, optional=True,
                                   tooltip="How much of a face's noise stays, where it has any: 0 = none, which looks "
                                   "painted in a grainy image, 1 = all."))  # fmt: skip


def restore_options(
    fr_model: FRModel,
    selection: Mapping[str, Any],
    *,
    strength: float,
    color: str,
    upscale: str,
    feather: float,
    blend: str = "auto",
    seed: int = -1,
    fidelity: float = 0.5,
    grain: float = RestoreOptions.grain,
    batch_size: int = 0,
) -> RestoreOptions:
    """The options that these inputs come to; `selection` are the fields that choose faces.

    Defaults are for prompts saved before an input existed, and for nodes without it.
    """
    return RestoreOptions(
        **selection,
        strength="auto" if blend == "auto" else strength,
        color=color,
        upscale=int(upscale),
        feather=feather,
        batch_size=batch_size,
        seed=None if seed < 0 else seed,
        fidelity=None if fr_model.restorer.fidelity is None else fidelity,
        grain=grain,
    )


def unused_strength(options: RestoreOptions, strength: float) -> str:
    """A note on a strength that the options do not use; empty if they use it, or it is the default."""
    if options.strength != "auto" or strength == _STRENGTH:
        return ""
    return f"strength {strength:g} has no effect: blend is auto"
