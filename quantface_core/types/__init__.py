"""The frozen values that stages exchange: faces, formats, configurations, reports and plans. No torch."""

from .allocation import BitPlan, Budget, LayerSensitivity, Sensitivity
from .bits import BITS, Bits, check_bits, widths_in_words
from .execution import DEFAULT_RESTORER, DEVICES, PRECISIONS
from .faces import Crop, Face, Pixels, Plane, Repair, Restoration, RestoredFace
from .numbers import is_number, is_whole
from .progress import Progress, silent
from .quantization import (
    BRANCH_BITS,
    BRANCHES,
    FLOAT_BRANCH,
    ROUNDINGS,
    Branch,
    LayerFormat,
    LayerReport,
    QuantConfig,
    RestorerQuantConfig,
    Rounding,
)
from .training import (
    DISTILL_MODES,
    TRAINING_PRECISIONS,
    DistillConfig,
    DistillMode,
    RestorerDistillConfig,
    TrainerConfig,
)

__all__ = [
    "BITS",
    "BRANCHES",
    "BRANCH_BITS",
    "DEFAULT_RESTORER",
    "DEVICES",
    "DISTILL_MODES",
    "FLOAT_BRANCH",
    "PRECISIONS",
    "ROUNDINGS",
    "TRAINING_PRECISIONS",
    "BitPlan",
    "Bits",
    "Branch",
    "Budget",
    "Crop",
    "DistillConfig",
    "DistillMode",
    "Face",
    "LayerFormat",
    "LayerReport",
    "LayerSensitivity",
    "Pixels",
    "Plane",
    "Progress",
    "QuantConfig",
    "Repair",
    "Restoration",
    "RestoredFace",
    "RestorerDistillConfig",
    "RestorerQuantConfig",
    "Rounding",
    "Sensitivity",
    "TrainerConfig",
    "check_bits",
    "is_number",
    "is_whole",
    "silent",
    "widths_in_words",
]
