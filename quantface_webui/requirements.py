"""The packages that restoring needs, and the pip requirements of those that the host lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

BY_HAND = "--by-hand"  # has install.py run pip itself, not through the host

_NEEDED = {  # by module; as requirements.txt has them
    "cv2": "opencv-python-headless>=4.8",
    "diffusers": "diffusers>=0.30",
    "filelock": "filelock>=3.21",
    "huggingface_hub": "huggingface-hub>=0.25",
    "safetensors": "safetensors>=0.4.3",
    "tqdm": "tqdm>=4.60",
}
_OLD_TORCH = {"diffusers": "diffusers>=0.30,<0.36"}  # before 2.4: newer ones import what it lacks


def missing_requirements() -> list[str]:
    """The pip requirements of modules that the host lacks."""
    needed = dict(_NEEDED)
    if sys.version_info < (3, 11):
        needed["tomli"] = "tomli>=2.0"
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent and _version("torch") < (2, 4):
        needed |= _OLD_TORCH
    return [needed[name] for name in absent]


def install_command(script: Path) -> str:
    """The command that has install.py install what is missing; pip alone would also update what the host has.

    Python is in quotes only where it must be: PowerShell takes a program's for a text.
    """
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f'{python} "{script}" {BY_HAND}'


def pip_constraints() -> str:
    """Every installed package at its version, as constraints for pip."""
    found: dict[str, str] = {}
    for dist in importlib.metadata.distributions():
        name, number = dist.metadata["Name"], dist.version
        if name and number and not _is_leftover(dist):
            # The first on sys.path is the one that is imported; other spellings of its name are the same package.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), f"{name}=={number}\n")
    return "".join(sorted(found.values()))


def _is_leftover(dist: importlib.metadata.Distribution) -> bool:
    """Whether an uninstall left it behind: pip renames a folder to start with ~ before deleting it."""
    folder = getattr(dist, "_path", None)  # None for finders other than Python's own
    return folder is not None and folder.name.startswith("~")


def _version(package: str) -> tuple[int, int]:
    """The first two numbers of an installed package's version; 0, 0 if it is not installed."""
    try:
        first, second = importlib.metadata.version(package).split(".")[:2]
        return int(first), int(second)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0, 0
