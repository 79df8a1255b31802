"""How the faces of a photo are restored: the options, what they may be, and their checks. No torch, no OpenCV."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from .errors import UsageError
from .types import is_number, is_whole

FACE_CHOICES = ("all", "largest")
"""The choices of faces besides positions."""

FACE_ORDERS = ("left-to-right", "size", "confidence")
"""The orders in which positions count faces: from the left, the largest first, the most certain first."""

COLORS = ("wavelet", "adain", "none")
"""How a restored face's colours are matched to the photo: low frequencies, mean and standard deviation, not at all."""

UPSCALES = (1, 2, 4)
"""Output size over input size."""

_LARGEST_POSITION = 9999  # photos have fewer faces, and a mistyped range must not exhaust the memory
_DIGITS = 20  # numbers of so many digits are rejected unparsed
_COMMAS = "[,\uff0c\u3001]"  # Chinese keyboards type the other two


@dataclass(frozen=True)
class RestoreOptions:
    """How the faces of a photo are selected, restored and pasted back."""

    faces: str | tuple[int, ...] = "all"  # in FACE_CHOICES, or positions, counted from 0 in `order`
    order: str = "left-to-right"  # in FACE_ORDERS
    min_size: float = 0.0  # pixels; faces whose `Face.size` is smaller are ignored; 0 = any size
    min_confidence: float = 0.7  # 0 to 1; faces whose score is lower are ignored
    strength: float | Literal["auto"] = "auto"  # "auto" = decided per pixel; 0 = unchanged photo, 1 = fully restored
    color: str = "wavelet"  # in COLORS
    upscale: int = 1  # in UPSCALES
    feather: float = 0.32  # 0 to 1: share of the face mask's radius over which it fades out; 0 = a hard edge
    batch_size: int = 0  # faces restored at once; memory grows with it; 0 = what is fastest on the device
    seed: int | None = None  # None = no sampling (the latent's mode); a number = sample, face i with seed + i
    grain: float = 0.15  # 0 to 1: share of a face's noise that stays; without any it looks painted
    fidelity: float | None = None  # CodeFormer only: 0 = best looking, 1 = closest to the photo; None = its default


def check_options(options: RestoreOptions) -> None:
    """Raise UsageError naming the first option that is invalid, of another kind included: JSON may hold anything."""
    check_selection(options)
    if options.strength != "auto" and not (is_number(options.strength) and 0 <= options.strength <= 1):
        raise UsageError(f"strength must be auto, or between 0 and 1, got {options.strength!r}")
    for name in ("min_confidence", "feather", "grain", *(["fidelity"] if options.fidelity is not None else [])):
        share = getattr(options, name)
        if not (is_number(share) and 0 <= share <= 1):
            raise UsageError(f"{name} must be between 0 and 1, got {share!r}")
    if not (is_number(options.min_size) and 0 <= options.min_size < float("inf")):
        raise UsageError(f"min_size must be a number of pixels, 0 or more, got {options.min_size!r}")
    if options.color not in COLORS:
        raise UsageError(f"color must be one of {', '.join(COLORS)}, got {options.color!r}")
    if not (is_whole(options.upscale) and options.upscale in UPSCALES):
        raise UsageError(f"upscale must be one of {', '.join(map(str, UPSCALES))}, got {options.upscale!r}")
    if not (is_whole(options.batch_size) and options.batch_size >= 0):
        kinds = "at least 1, or 0 for the fastest on the device"
        raise UsageError(f"batch_size must be {kinds}, got {options.batch_size!r}")
    if options.seed is not None and not (is_whole(options.seed) and 0 <= options.seed < 2**62):
        raise UsageError(f"seed must be a whole number from 0 to 2^62 - 1, got {options.seed!r}")


def check_selection(options: RestoreOptions) -> None:
    """Raise UsageError for what are no options, and for an unknown order or choice of faces."""
    if not isinstance(options, RestoreOptions):
        raise UsageError(f"options are RestoreOptions, such as RestoreOptions(strength=0.6), got {options!r:.60}")
    if options.order not in FACE_ORDERS:
        raise UsageError(f"order must be one of {', '.join(FACE_ORDERS)}, got {options.order!r}")
    if not (options.faces in FACE_CHOICES if isinstance(options.faces, str) else _are_positions(options.faces)):
        raise UsageError(f"faces must be {', '.join(FACE_CHOICES)} or positions such as 0,2, got {options.faces!r}")


def parse_faces(text: str) -> str | tuple[int, ...]:
    """`RestoreOptions.faces` as a user writes it: one of FACE_CHOICES, or positions. Raises UsageError."""
    if text in FACE_CHOICES:
        return text
    try:
        return parse_positions(text)
    except UsageError as error:
        raise UsageError(f"faces must be {', '.join(FACE_CHOICES)} or positions; {error}") from None


def parse_positions(text: str) -> tuple[int, ...]:
    """`0,2-4` -> (0, 2, 3, 4): numbers from 0 and ranges; spaces and empty items are ignored. Raises UsageError."""
    positions: list[int] = []
    for part in filter(None, map(str.strip, re.split(_COMMAS, text))):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(end.isdecimal() and len(end) < _DIGITS for end in ends):
            raise UsageError(f"positions {text!r:.60}: give whole numbers from 0, and ranges, such as 0,2 or 0-3")
        first, last = int(ends[0]), int(ends[-1])
        if not first <= last <= _LARGEST_POSITION:
            at_most = f"a range runs from the smaller to the larger number, at most {_LARGEST_POSITION}"
            raise UsageError(f"positions {text!r:.60}: {at_most}")
        positions += range(first, last + 1)
    if not positions:
        raise UsageError(f"positions {text!r:.60}: give at least one, such as 0")
    return tuple(positions)


def _are_positions(value: object) -> bool:
    return isinstance(value, Collection) and all(is_whole(position) for position in value)
