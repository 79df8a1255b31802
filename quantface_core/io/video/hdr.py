"""HDR10's static metadata, by which a display maps a film's tones: what a film declares, as its encoder takes it."""

from __future__ import annotations

from typing import Any

import numpy as np

_CHROMATICITY, _LUMINANCE = 50_000, 10_000  # x265's units in 1, and in a candela per square metre


def hdr10_of(frame: Any) -> str:
    """x265's parameters for the mastering display and the light levels of a PyAV frame; "" if it declares neither."""
    from av.sidedata.sidedata import Type

    parameters = []
    if data := frame.side_data.get(Type.MASTERING_DISPLAY_METADATA):
        numbers = np.frombuffer(data, np.int32)  # FFmpeg's AVMasteringDisplayMetadata
        pairs, declared = numbers[:20].reshape(10, 2).astype(float), numbers[20:22]
        values = pairs[:, 0] / np.maximum(pairs[:, 1], 1)
        if declared.all():
            points = np.rint(values[:8] * _CHROMATICITY).astype(int).reshape(4, 2)
            red, green, blue, white = (f"({x},{y})" for x, y in points)
            low, high = np.rint(values[8:] * _LUMINANCE).astype(int)
            parameters.append(f"master-display=G{green}B{blue}R{red}WP{white}L({high},{low})")
    if data := frame.side_data.get(Type.CONTENT_LIGHT_LEVEL):
        brightest, average = np.frombuffer(data, np.uint32)[:2]
        parameters.append(f"max-cll={brightest},{average}")
    return ":".join(parameters)
