"""The packages that restoring needs, and the pip requirements of those that the host lacks."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from quantface_core.requirements import is_present, python_command

_NEEDED = {  # by module; as requirements.txt has them
    "cv2": "opencv-python-headless>=4.8",
    "diffusers": "diffusers>=0.30",
    "filelock": "filelock>=3.21",
    "huggingface_hub": "huggingface-hub>=0.25",
    "safetensors": "safetensors>=0.4.3",
    "tqdm": "tqdm>=4.60",
}
_FOR_OLDER = {"diffusers": "diffusers>=0.30,<0.36"}  # newer ones import what torch or transformers below lack
_TORCH, _TRANSFORMERS = (2, 4), (4, 48)


def missing_requirements() -> list[str]:
    """The pip requirements of modules that the host lacks."""
    needed = dict(_NEEDED)
    if sys.version_info < (3, 11):
        needed["tomli"] = "tomli>=2.0"
    absent = [name for name in needed if not is_present(name)]
    if _version("torch") < _TORCH or (0, 0) < _version("transformers") < _TRANSFORMERS:
        needed |= _FOR_OLDER
    return [needed[name] for name in absent]


def install_command(script: Path) -> str:
    """The command that has install.py install what is missing; pip alone would also update what the host has."""
    return f'{python_command()} "{script}" --by-hand'


def _version(package: str) -> tuple[int, int]:
    """The first two numbers of an installed package's version; 0, 0 if it is not installed."""
    try:
        first, second = importlib.metadata.version(package).split(".")[:2]
        return int(first), int(second)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0, 0
