"""How much of a face's restoration was applied: measured, and in words for reports."""

from __future__ import annotations

import numpy as np

from ..types import Crop, Plane

SMALL_FACE = 64.0
"""`Face.size`, in pixels, below which a photo shows little of a restored face until it is enlarged."""

_INVISIBLE = 0.08  # applied strength below which a change is invisible


def measure_strength(change: Crop, share: Plane, mask: Plane) -> float:
    """The mean of `share` [S, S] over `mask` [S, S], weighted by the magnitude of `change` [S, S, 3]; 0 to 1."""
    size = np.abs(change).mean(2) * mask
    return float((size * share).sum() / max(float(size.sum()), 1e-9))


def is_unchanged(applied_strength: float, removed_artifacts: str = "") -> bool:
    """Whether a face looks as it did: the change that was applied is invisible, and no artefacts were removed."""
    return applied_strength < _INVISIBLE and not removed_artifacts


def describe_change(applied_strength: float, automatic: bool = True, removed_artifacts: str = "") -> str:
    """What was done to a face, in words for reports; `automatic` when the strength was "auto"."""
    if is_unchanged(applied_strength, removed_artifacts):
        return "left as it was: no gain expected" if automatic else "left as it was"
    if is_unchanged(applied_strength):
        return f"{removed_artifacts} removed; left as it was otherwise"
    return "restored" if applied_strength > 1 - _INVISIBLE else f"restored by {applied_strength:.0%}"
