"""QuantFace: one-step diffusion face restoration, quantized; and the quantization, for any model.

The names below are the public interface. Those that need torch and diffusers load on first use, so that
a program (or a ComfyUI start-up) that only asks what there is does not wait for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ImageError, ModelError, QuantFaceError, UsageError, WriteError
from .types import (
    BitPlan,
    Budget,
    DistillSettings,
    Face,
    LayerReport,
    QuantConfig,
    Restoration,
    RestoreOptions,
    TrainerSettings,
)

if TYPE_CHECKING:
    from .faces.detect import FaceDetector
    from .io.checkpoint import load_restorer, save_restorer
    from .io.models import detector_path, restorer_path
    from .io.photos import Photo, read_photo, write_photo
    from .quant.allocate import allocate
    from .quant.checkpoint import load_quantized, save_quantized
    from .quant.quantize import quantize
    from .restorer import OneStepRestorer, RestorerConfig
    from .stages.restore import restore_aligned, restore_photo
    from .train.distill import DistillReport, distill

__version__ = "0.1.0"

_HOMES = {
    "FaceDetector": "faces.detect",
    "OneStepRestorer": "restorer",
    "Photo": "io.photos",
    "RestorerConfig": "restorer",
    "allocate": "quant.allocate",
    "DistillReport": "train.distill",
    "detector_path": "io.models",
    "distill": "train.distill",
    "load_quantized": "quant.checkpoint",
    "load_restorer": "io.checkpoint",
    "quantize": "quant.quantize",
    "read_photo": "io.photos",
    "restore_aligned": "stages.restore",
    "restore_photo": "stages.restore",
    "restorer_path": "io.models",
    "save_quantized": "quant.checkpoint",
    "save_restorer": "io.checkpoint",
    "write_photo": "io.photos",
}

__all__ = [
    "BitPlan",
    "Budget",
    "ConfigError",
    "DistillReport",
    "DistillSettings",
    "Face",
    "FaceDetector",
    "ImageError",
    "LayerReport",
    "ModelError",
    "OneStepRestorer",
    "Photo",
    "QuantConfig",
    "QuantFaceError",
    "Restoration",
    "RestoreOptions",
    "RestorerConfig",
    "TrainerSettings",
    "UsageError",
    "WriteError",
    "__version__",
    "allocate",
    "detector_path",
    "distill",
    "load_quantized",
    "load_restorer",
    "quantize",
    "read_photo",
    "restore_aligned",
    "restore_photo",
    "restorer_path",
    "save_quantized",
    "save_restorer",
    "write_photo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
