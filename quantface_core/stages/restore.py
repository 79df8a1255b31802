"""Restore the faces of one photo: detect, align, restore, paste."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ImageError, QuantFaceError, UsageError
from ..faces.align import Matrix, compose, extract, face_transform, invert, is_in_view, resizing, whole_transform
from ..faces.blend import blend
from ..faces.color import METHODS, match_color
from ..faces.fine_detail import FineDetail, measure_damage
from ..faces.paste import Patch, face_mask, paste
from ..faces.select import select_faces, sort_faces
from ..kernels.triton.launch import processors
from ..restorer.by_parts import RestorerByParts
from ..restorer.interface import Restorer
from ..runtime.memory import kept_memory
from ..types import Face, Pixels, Restoration, RestoreOptions

Crop = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with (faces done, faces in all); an exception it raises stops the work and nothing is lost."""

UPSCALES = (1, 2, 4)
_LEFT = 0.08  # share of a change that nobody sees
_GRAY = 0.004  # mean distance between a black and white picture's channels, of white: what compression leaves
_BATCH, _SMALL = 4, 256  # faces at once; pixels of a side up to which a processor gains by it, measured
_FILLED, _LARGE = 60, 512  # multiprocessors of a GPU that one face of this side keeps busy


def restore_photo(
    pixels: Pixels,
    restorer: Restorer,
    faces: Sequence[Face],
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
    background: Pixels | None = None,
) -> Restoration:
    """Restore the given faces of an RGB photo [H, W, 3], uint8 or uint16.

    `faces` come from a detector or from the user; the options choose among them. A photo without faces comes back as it
    was, upscaled if asked, and so does a face that lies wholly outside. `background` is the same photo enlarged by
    other means (same dtype), onto which the faces are pasted instead of our own enlargement. Raises ImageError,
    UsageError, and as `restore_crops` does.
    """
    options = options or RestoreOptions()
    check_options(options)
    _check_pixels(pixels)
    if background is not None:
        _check_background(pixels, background, options)
    ordered = sort_faces(faces, options)
    height, width = pixels.shape[:2]
    chosen = tuple(i for i in select_faces(ordered, options) if is_in_view(ordered[i], width, height))
    size = restorer.image_size
    transforms = [face_transform(ordered[i], size) for i in chosen]
    return _restore(
        pixels, restorer, transforms, face_mask(size, options.feather), options, progress, ordered, chosen, background
    )


def restore_aligned(
    pixels: Pixels, restorer: Restorer, options: RestoreOptions | None = None, progress: Progress | None = None
) -> Restoration:
    """Restore a picture that is one aligned, about square face; every pixel may change."""
    options = options or RestoreOptions()
    check_options(options)
    _check_pixels(pixels)
    height, width = pixels.shape[:2]
    if max(height, width) > 1.1 * min(height, width):
        raise ImageError(f"an aligned face is square, but this picture is {width}x{height}: restore it as a photo")
    size = restorer.image_size
    mask = np.ones((size, size), np.float32)
    transform = whole_transform(width, height, size)
    whole = Face((0.0, 0.0, float(width), float(height)), (), 1.0)
    return _restore(pixels, restorer, [transform], mask, options, progress, (whole,), (0,))


def check_options(options: RestoreOptions) -> None:
    """Raise UsageError naming the first option that makes no sense."""
    select_faces(sort_faces((), options), options)
    if options.strength != "auto" and not (_is_number(options.strength) and 0 <= options.strength <= 1):
        raise UsageError(f"strength is auto, or between 0 and 1, got {options.strength!r}")
    if options.upscale not in UPSCALES:
        raise UsageError(f"upscale is one of {UPSCALES}, got {options.upscale}")
    if not 0 <= options.feather <= 1:
        raise UsageError(f"feather is between 0 and 1, got {options.feather}")
    for name, value in (("smallest size", options.min_size), ("least confidence", options.min_confidence)):
        if not 0 <= value < float("inf"):
            raise UsageError(f"the {name} of faces is a number from 0 up, got {value}")
    if options.batch_size < 0:
        raise UsageError(f"batch size is at least 1, or 0 for what is quickest, got {options.batch_size}")
    if options.seed is not None and not 0 <= options.seed < 2**62:
        raise UsageError(f"a seed is a whole number from 0 to 2^62, got {options.seed}")
    if options.fidelity is not None and not 0 <= options.fidelity <= 1:
        raise UsageError(f"fidelity is between 0 and 1, got {options.fidelity}")
    if options.color not in METHODS:
        raise UsageError(f"colour matching is one of {METHODS}, got {options.color!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_pixels(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(f"a photo is [height, width, 3] and not empty, got {list(pixels.shape)}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"a photo's pixels are uint8 or uint16, got {pixels.dtype}")


def _check_background(pixels: Pixels, background: Pixels, options: RestoreOptions) -> None:
    _check_pixels(background)
    (height, width), (tall, wide) = pixels.shape[:2], background.shape[:2]
    if background.dtype != pixels.dtype or abs(wide / width - tall / height) > 0.02 * tall / height:
        raise ImageError(f"the background is the photo enlarged: {width}x{height} does not become {wide}x{tall}")
    if options.upscale != 1:
        raise UsageError("a background is enlarged already: set upscale to 1")


def _restore(
    pixels: Pixels,
    restorer: Restorer,
    transforms: Sequence[Matrix],
    mask: Crop,
    options: RestoreOptions,
    progress: Progress | None,
    faces: tuple[Face, ...],
    chosen: tuple[int, ...],
    background: Pixels | None = None,
) -> Restoration:
    crops = [extract(pixels, transform, len(mask)) for transform in transforms]
    restored = [
        match_color(restored, crop, options.color)
        for restored, crop in zip(restore_crops(crops, restorer, options, progress), crops, strict=True)
    ]
    base = enlarged(pixels, options.upscale) if background is None else background
    enlarge = resizing(*pixels.shape[1::-1], *base.shape[1::-1])
    places = [compose(enlarge, invert(transform)) for transform in transforms]
    # A background has details of its own, and the change is to those, not to the photo's.
    before = crops if background is None else [extract(base, invert(place), len(mask)) for place in places]
    blends = [blended(a, b, options.strength) for a, b in zip(before, restored, strict=True)]
    fine_details = [f and measure_damage(f, base, mask, place) for (_, f), place in zip(blends, places, strict=True)]
    patches, shares, strengths = [], [], []
    for a, b, (share, _), fine_detail, place in zip(before, restored, blends, fine_details, places, strict=True):
        change, strength = b - a, measure_strength(b - a, share, mask)
        if fine_detail and not fine_detail.damage and is_unchanged(strength):
            share, strength, fine_detail = np.zeros_like(share), 0.0, None  # as it was, to the bit
        taken = (to_gray(change) if is_gray(a) else change) * share[..., None]
        patches.append(Patch(taken, mask, place, fine_detail))
        shares.append(share)
        strengths.append(strength)
    result, changed = paste(base, patches)
    shown = tuple(np.clip(r, 0, 1) for r in restored)
    removed = tuple(fine_detail.damage if fine_detail else "" for fine_detail in fine_details)
    return Restoration(result, changed, faces, chosen, tuple(crops), shown, tuple(shares), tuple(strengths), removed)


def measure_strength(change: Crop, share: Crop, mask: Crop) -> float:
    """The mean of `share` [S, S] over the mask, weighted by the change's magnitude: 0 = nothing is applied, 1 = all."""
    size = np.abs(change).mean(2) * mask
    return float((size * share).sum() / max(float(size.sum()), 1e-9))


def is_unchanged(applied_strength: float) -> bool:
    """Whether so little of a face's change was applied that nobody sees it."""
    return applied_strength < _LEFT


def describe_change(applied_strength: float, automatic: bool = True, removed_artifacts: str = "") -> str:
    """What was done to a face, for reports; `automatic` when the strength was not the user's."""
    if is_unchanged(applied_strength):
        if removed_artifacts:
            return f"{removed_artifacts} removed; left as it was otherwise"
        return "left as it was: no gain expected" if automatic else "left as it was"
    return "restored" if applied_strength > 1 - _LEFT else f"restored by {applied_strength:.0%}"


def describe_faces(result: Restoration, automatic: bool = True) -> dict[int, str]:
    """What was done to each restored face, by its position."""
    changes = zip(result.restored, result.applied_strength, result.removed_artifacts, strict=True)
    return {number: describe_change(strength, automatic, removed) for number, strength, removed in changes}


def unchanged_faces(result: Restoration) -> set[int]:
    """Positions of the faces that were looked at and left as they were."""
    changes = zip(result.restored, result.applied_strength, result.removed_artifacts, strict=True)
    return {number for number, strength, removed in changes if is_unchanged(strength) and not removed}


def blended(before: Crop, after: Crop, strength: float | str) -> tuple[Crop, FineDetail | None]:
    """The share of the change to take, [S, S], and what becomes of the photo's finer detail."""
    if isinstance(strength, str):
        share, keep = blend(before, after)
        return share, FineDetail(before, keep)
    return np.full(before.shape[:2], strength, np.float32), None


def restore_crops(
    crops: Sequence[Crop],
    restorer: Restorer,
    options: RestoreOptions,
    progress: Progress | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Crop]:
    """Run the restorer over aligned crops [S, S, 3] in 0 to 1, in batches that halve when memory runs out.

    With `seeds`, one a crop, latents are sampled; without, the options' seed counts up from crop to crop.
    Raises UsageError where a fidelity is asked of a restorer that has none, QuantFaceError with advice when even one
    face does not fit, or what the model gives is not finite.
    """
    if options.fidelity is not None and getattr(restorer, "fidelity", None) is None:
        raise UsageError("this model has no fidelity to choose: CodeFormer has")
    # Only where it is chosen: most restorers know no such argument.
    choice = {} if options.fidelity is None else {"fidelity": options.fidelity}
    restored: list[Crop] = []
    batch_size = options.batch_size or default_batch_size(restorer.image_size, restorer.device)
    if seeds is None and options.seed is not None:
        # A face's seed counts from its own position, so batches of any size draw the same noise.
        seeds = range(options.seed, options.seed + len(crops))
    while len(restored) < len(crops):
        start = len(restored)
        if progress:
            progress(start, len(crops))
        # By parts, all faces go through a part before it makes room for the next; it batches them itself.
        batch = np.stack(crops[start:] if isinstance(restorer, RestorerByParts) else crops[start : start + batch_size])
        try:
            drawn = None if seeds is None else seeds[start : start + len(batch)]
            restored += _run(batch, restorer, drawn, batch_size, choice)
        except torch.cuda.OutOfMemoryError as error:
            if batch_size == 1 or len(batch) == 1:
                raise QuantFaceError(f"not enough memory on {restorer.device} for one face: use the CPU") from error
            torch.cuda.empty_cache()
            batch_size = min(batch_size, len(batch)) // 2
    if progress and crops:
        progress(len(crops), len(crops))
    return restored


def default_batch_size(size: int, device: torch.device) -> int:
    """Faces of side `size` in one batch beyond which the device gains no throughput.

    A processor, or a GPU of few multiprocessors, is as busy with one large face as with four; there more at once would
    only take memory from other models.
    """
    if device.type == "cpu":
        return max(1, _BATCH * _SMALL**2 // size**2)
    return 1 if size >= _LARGE and processors(device) < _FILLED else _BATCH


def _run(
    batch: Crop, restorer: Restorer, seeds: Sequence[int] | None, batch_size: int, choice: Mapping[str, Any]
) -> list[Crop]:
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).to(restorer.device) * 2 - 1
    with torch.inference_mode(), kept_memory():
        if isinstance(restorer, RestorerByParts):
            outputs = restorer(images, seeds, batch_size)
        else:
            outputs = restorer(images, seeds, **choice)
    if not torch.isfinite(outputs).all():
        raise QuantFaceError(
            "what the model made of a face is not finite: give precision float32, or fetch the model again"
        )
    return list((outputs.permute(0, 2, 3, 1).cpu().numpy() + 1) / 2)


def is_gray(pixels: Pixels | Crop) -> bool:
    """Whether a photo, or a face of one in 0 to 1, is black and white: restored, it stays so."""
    whole = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype.name).max
    sample = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)].astype(np.float32)
    red, green, blue = cv2.split(sample)  # numpy takes many times as long along an axis of three
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float(spread.mean()) < _GRAY * whole


def to_gray(change: Crop) -> Crop:
    """The change in brightness alone (Rec. 601 luma), in all three channels."""
    return np.repeat((change @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, axis=2)


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    if factor == 1:
        return pixels
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4)
