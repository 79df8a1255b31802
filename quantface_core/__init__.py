"""QuantFace: low-bit one-step diffusion face restoration, and its quantization method for any PyTorch model.

The names below are the public interface. Those that need torch and diffusers are imported on first use, so that a
program (or a ComfyUI start-up) that only lists what is available does not wait for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ImageError, ModelError, QuantFaceError, UsageError, WriteError
from .options import RestoreOptions
from .types import (
    BitPlan,
    Bits,
    Budget,
    DistillConfig,
    Face,
    LayerReport,
    LayerSensitivity,
    QuantConfig,
    Repair,
    Restoration,
    RestoredFace,
    Sensitivity,
    TrainerConfig,
)

if TYPE_CHECKING:
    from .faces.detect import FaceDetector
    from .faces.scratches import repair_scratches
    from .io.checkpoint import load_restorer, save_restorer
    from .io.models import detector_path, restorer_path
    from .io.photos import Photo, decode_photo, encode_photo, read_photo, write_photo
    from .io.plans import load_plan, load_sensitivity, save_plan, save_sensitivity
    from .io.upscalers import load_upscaler
    from .kernels.dispatch import register_backend
    from .quant.allocate import allocate, measure_sensitivity
    from .quant.bit_program import describe_plan, solve_plan, summarize_plan
    from .quant.checkpoint import load_quantized, save_quantized
    from .quant.output_error import measure_error
    from .quant.pretrained import register_quantizer
    from .quant.quantize import quantize
    from .quant.record import record_calls
    from .restorer import OneStepRestorer, RestorerConfig, RestorerModel
    from .restorer.families import register_restorer
    from .stages.restore import restore_aligned, restore_photo
    from .train.distill import distill
    from .train.trainer import Trainer
    from .train.training import TrainerCallbacks, TrainingReport

__version__ = "0.1.0"

_HOMES = {
    "allocate": "quant.allocate",
    "decode_photo": "io.photos",
    "describe_plan": "quant.bit_program",
    "detector_path": "io.models",
    "distill": "train.distill",
    "encode_photo": "io.photos",
    "FaceDetector": "faces.detect",
    "load_plan": "io.plans",
    "load_quantized": "quant.checkpoint",
    "load_restorer": "io.checkpoint",
    "load_sensitivity": "io.plans",
    "load_upscaler": "io.upscalers",
    "measure_error": "quant.output_error",
    "measure_sensitivity": "quant.allocate",
    "OneStepRestorer": "restorer",
    "Photo": "io.photos",
    "quantize": "quant.quantize",
    "read_photo": "io.photos",
    "record_calls": "quant.record",
    "register_backend": "kernels.dispatch",
    "register_quantizer": "quant.pretrained",
    "register_restorer": "restorer.families",
    "repair_scratches": "faces.scratches",
    "restore_aligned": "stages.restore",
    "restore_photo": "stages.restore",
    "restorer_path": "io.models",
    "RestorerConfig": "restorer",
    "RestorerModel": "restorer",
    "save_plan": "io.plans",
    "save_quantized": "quant.checkpoint",
    "save_restorer": "io.checkpoint",
    "save_sensitivity": "io.plans",
    "solve_plan": "quant.bit_program",
    "summarize_plan": "quant.bit_program",
    "Trainer": "train.trainer",
    "TrainerCallbacks": "train.training",
    "TrainingReport": "train.training",
    "write_photo": "io.photos",
}

__all__ = [
    "BitPlan",
    "Bits",
    "Budget",
    "ConfigError",
    "DistillConfig",
    "Face",
    "FaceDetector",
    "ImageError",
    "LayerReport",
    "LayerSensitivity",
    "ModelError",
    "OneStepRestorer",
    "Photo",
    "QuantConfig",
    "QuantFaceError",
    "Repair",
    "Restoration",
    "RestoreOptions",
    "RestoredFace",
    "RestorerConfig",
    "RestorerModel",
    "Sensitivity",
    "Trainer",
    "TrainerCallbacks",
    "TrainerConfig",
    "TrainingReport",
    "UsageError",
    "WriteError",
    "__version__",
    "allocate",
    "decode_photo",
    "describe_plan",
    "detector_path",
    "distill",
    "encode_photo",
    "load_plan",
    "load_quantized",
    "load_restorer",
    "load_sensitivity",
    "load_upscaler",
    "measure_error",
    "measure_sensitivity",
    "quantize",
    "read_photo",
    "record_calls",
    "register_backend",
    "register_quantizer",
    "register_restorer",
    "repair_scratches",
    "restore_aligned",
    "restore_photo",
    "restorer_path",
    "save_plan",
    "save_quantized",
    "save_restorer",
    "save_sensitivity",
    "solve_plan",
    "summarize_plan",
    "write_photo",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
