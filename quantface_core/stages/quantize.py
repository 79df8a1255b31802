"""Quantize a restorer: the method for any model, with a restorer's parts, edge layers and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ..errors import ConfigError, UsageError
from ..kernels.quantize import largest_code
from ..quant.batches import Progress
from ..quant.observe import ChannelStatistics, calibrate
from ..quant.quantize import plan_formats, quantize_layers
from ..restorer.interface import RestorerModel
from ..types import FLOAT_BRANCH, BitPlan, LayerFormat, LayerReport, QuantConfig, QuantizeSettings

_LEAST_AT_ONCE, _MOST_AT_ONCE = 2, 8  # images: fewer leave nothing to check on what rounding has learned
_PIXELS_AT_ONCE = 2 * 512 * 512  # whose maps fit into memory beside a Stable Diffusion's weights


def calibrate_restorer(
    restorer: RestorerModel, images: Tensor, progress: Progress | None = None, settings: QuantConfig | None = None
) -> dict[str, ChannelStatistics]:
    """Statistics by layer name over images [N, 3, H, W] in [-1, 1], run one by one; what they hold follows from what
    the settings want.

    Raises UsageError when there is no image, ImageError on NaN.
    """
    if len(images) == 0:
        raise UsageError("calibration needs at least one image")
    wanted = (settings or QuantizeSettings()).wants_fisher
    differentiated = len(images_at_once(restorer, images)) if wanted else 0
    with restorer.gradient_checkpointing(residual_blocks=True):
        return calibrate(restorer, images.split(1), progress=progress, fisher_batches=differentiated)


def images_at_once(restorer: RestorerModel, images: Tensor) -> Tensor:
    """The first of images [N, 3, S, S]: as many as layers are searched and rounded on, in one run of the model."""
    return images[: max(_LEAST_AT_ONCE, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // restorer.image_size**2))]


def restorer_formats(
    restorer: RestorerModel, settings: QuantizeSettings, plan: BitPlan | None = None
) -> dict[str, LayerFormat]:
    """The format before the search of every layer in the settings' parts, by name.

    Edge layers have widths of their own, which a plan goes before, and no branch. Raises ConfigError.
    """
    parts = settings.parts or restorer.parts
    if unknown := set(parts) - set(restorer.parts):
        raise ConfigError(f"parts are of {', '.join(sorted(restorer.parts))}: there is no {min(unknown)}")
    largest_code(settings.edge_bits)
    formats = plan_formats(restorer, settings, plan)
    for name, fmt in formats.items():
        if any(word in name for word in restorer.edge_layers):
            planned = plan is not None and name in plan.layers
            widths = (fmt.weight_bits, fmt.activation_bits) if planned else (settings.edge_bits,) * 2
            formats[name] = replace(
                fmt, weight_bits=widths[0], activation_bits=widths[1], rank=0, branch_bits=FLOAT_BRANCH
            )
    return {name: fmt for name, fmt in formats.items() if name.split(".")[0] in parts}


def quantize_restorer(
    restorer: RestorerModel,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
    plan: BitPlan | None = None,
) -> list[LayerReport]:
    """Quantize `restorer` in place; `images` [N, 3, H, W] in [-1, 1] feed the searches. Returns the reports.

    Interrupted or refused, the restorer stays as it was. Raises UsageError, ConfigError.
    """
    settings = settings or QuantizeSettings()
    if len(images) == 0:
        raise UsageError("quantizing needs at least one image")
    formats = restorer_formats(restorer, settings, plan)
    return quantize_layers(
        restorer, statistics, [images], formats, settings, rules=restorer.fold_rules, progress=progress
    )
