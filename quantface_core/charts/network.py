"""Layers in the order of the data flow, and the parts of the pipeline that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, groupby, pairwise

from .canvas import BAND, INK, SOFT, Canvas, text_width
from .plot import Scale

_PARTS = ("embedder", "vae.encoder", "unet", "vae.decoder")
# Within a part; diffusers registers the middle block last and quant_conv after both halves.
_PLACES = ("post_quant_conv", "conv_in", "time_emb", "down", "mid", "up", "conv_out", "quant_conv")


def along_network(names: Iterable[str]) -> list[str]:
    """Layer names in data-flow order; layers of one block keep their order."""
    return sorted(names, key=lambda name: (_PARTS.index(chart_section(name)), _place(name)))


def chart_section(name: str) -> str:
    """The part of a layer: embedder, vae.encoder, unet or vae.decoder; unknown ones count as the UNet's."""
    if name.startswith(("vae.", "paths.")):
        return "vae.decoder" if name.startswith(("vae.decoder.", "vae.post_quant_conv", "paths.")) else "vae.encoder"
    return "embedder" if name.startswith("embedder.") else "unet"


def _place(name: str) -> int:
    words = name.removeprefix(chart_section(name)).split(".")
    # The first word that matches decides: `down_blocks.0.resnets.0.conv_out` is in `down`.
    return next((_PLACES.index(p) for w in words for p in _PLACES if w.startswith(p)), len(_PLACES))


def draw_parts(canvas: Canvas, names: list[str], x: Scale, top: float, bottom: float) -> None:
    """Mark the parts behind a plot whose `x` counts layers, every other one with a band, and name them above."""
    runs = [(part, len([*layers])) for part, layers in groupby(map(chart_section, names))]
    ends = pairwise([0, *accumulate(count for _, count in runs)])
    spans = [(part, first, last) for (part, _), (first, last) in zip(runs, ends, strict=True)]
    free = x.start
    for i, (part, first, last) in enumerate(spans):
        if i % 2 == 0:
            canvas.box(x(first), top, x(last), bottom, BAND)
        elif i:
            canvas.line([(x(first), top), (x(first), bottom)], SOFT, 0.5)
        width = text_width(part)
        after = sum(text_width(p) + 12 for p, _, _ in spans[i + 1 :])
        middle = (x(first) + x(last)) / 2
        left = max(free, min(middle - width / 2, x.stop + 40 - after - width))
        canvas.text(left, top - 6, part, anchor="ld", color=INK)
        free = left + width + 12
