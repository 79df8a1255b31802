"""Quantize a restorer: the method for any model, with a restorer's parts, edge layers and fold rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ..errors import ConfigError, UsageError
from ..quant.observe import ChannelStatistics, calibrate
from ..quant.quantize import plan_formats, quantize_layers
from ..restorer.interface import RestorerModel
from ..types import FLOAT_BRANCH, BitPlan, LayerFormat, LayerReport, Progress, RestorerQuantConfig, check_bits, silent

_LEAST_AT_ONCE, _MOST_AT_ONCE = 2, 8  # images: with fewer, none are left to check compensated rounding on
_PIXELS_AT_ONCE = 2 * 512 * 512  # activations of so many fit into memory beside Stable Diffusion's weights


def calibrate_restorer(
    restorer: RestorerModel, images: Tensor, progress: Progress = silent, config: RestorerQuantConfig | None = None
) -> dict[str, ChannelStatistics]:
    """Channel statistics by layer name over calibration images [N, 3, H, W] in [-1, 1], which run one by one.

    They include Fisher information where the config needs it. Raises UsageError when there is no image, ImageError for
    NaN or infinite values.
    """
    if len(images) == 0:
        raise UsageError("calibration needs at least one image")
    wanted = (config or RestorerQuantConfig()).wants_fisher
    differentiated = len(images_at_once(restorer, images)) if wanted else 0
    with restorer.gradient_checkpointing(residual_blocks=True):
        return calibrate(restorer, images.split(1), progress=progress, fisher_batches=differentiated)


def images_at_once(restorer: RestorerModel, images: Tensor) -> Tensor:
    """The first of images [N, 3, S, S]: as many as fit into one run of the model for search, rounding or gradients."""
    return images[: max(_LEAST_AT_ONCE, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // restorer.image_size**2))]


def restorer_formats(
    restorer: RestorerModel, config: RestorerQuantConfig, plan: BitPlan | None = None
) -> dict[str, LayerFormat]:
    """The format, before the search, of every layer in the config's parts, by name.

    Edge layers get `edge_bits`, unless the plan sets their widths, and no low-rank branch. Raises ConfigError for
    a config out of bounds, unknown parts, or a plan for another model.
    """
    parts = config.parts or restorer.parts
    if unknown := set(parts) - set(restorer.parts):
        raise ConfigError(f"there is no part {min(unknown)}: parts are {', '.join(sorted(restorer.parts))}")
    check_bits(config.edge_bits)
    formats = plan_formats(restorer, config, plan)
    for name, fmt in formats.items():
        if any(word in name for word in restorer.edge_layers):
            planned = plan is not None and name in plan.layers
            widths = (fmt.weight_bits, fmt.activation_bits) if planned else (config.edge_bits,) * 2
            formats[name] = replace(
                fmt, weight_bits=widths[0], activation_bits=widths[1], rank=0, branch_bits=FLOAT_BRANCH
            )
    return {name: fmt for name, fmt in formats.items() if name.split(".")[0] in parts}


def quantize_restorer(
    restorer: RestorerModel,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    config: RestorerQuantConfig | None = None,
    progress: Progress = silent,
    plan: BitPlan | None = None,
) -> list[LayerReport]:
    """Quantize `restorer` in place; searches and rounding use `images` [N, 3, H, W] in [-1, 1].

    Returns the layers' reports. Raises UsageError, ConfigError; on any exception the restorer is left unchanged.
    """
    config = config or RestorerQuantConfig()
    if len(images) == 0:
        raise UsageError("quantizing needs at least one image")
    formats = restorer_formats(restorer, config, plan)
    return quantize_layers(
        restorer, statistics, [images], formats, config, rules=restorer.fold_rules, progress=progress
    )
