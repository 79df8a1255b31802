"""Crops through a restorer at the contrast of ordinary portraits, and back at their own, in their own colours."""

from __future__ import annotations

from collections.abc import Sequence

from ..faces.color import match_color
from ..faces.contrast import IDENTITY, ContrastStretch, contrast_stretch
from ..options import RestoreOptions
from ..restorer.interface import Restorer
from ..types import Crop, Progress, silent
from .batches import restore_crops


def restore_stretched(
    crops: Sequence[Crop],
    restorer: Restorer,
    options: RestoreOptions,
    progress: Progress = silent,
    seeds: Sequence[int] | None = None,
) -> tuple[list[Crop], list[ContrastStretch]]:
    """Restore crops without noise, [S, S, 3] in 0 to 1; returns (crops alike, how each was stretched).

    A restorer that `keeps_contrast` gets and returns them in their own. Takes arguments and raises as `restore_crops`.
    """
    keeps_contrast = getattr(restorer, "keeps_contrast", False)
    stretches = [IDENTITY if keeps_contrast else contrast_stretch(crop) for crop in crops]
    stretched = [stretch.apply(crop) for stretch, crop in zip(stretches, crops, strict=True)]
    restored = restore_crops(stretched, restorer, options, progress, seeds)
    for index, (stretch, crop) in enumerate(zip(stretches, crops, strict=True)):
        # In place: in a crowd, crops take gigabytes.
        restored[index] = stretch.undo(crop, match_color(restored[index], stretched[index], options.color))
        stretched[index] = crop
    return restored, stretches
