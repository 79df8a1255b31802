"""Run by Stable Diffusion WebUI when it starts: installs what is missing, and changes no version that is there.

ComfyUI-Manager runs a file of this name too, after `requirements.txt`: without a WebUI it does nothing.
"""

import importlib.metadata
import importlib.util
import sys
import tempfile
from pathlib import Path

NEEDED = {  # module -> what pip is asked for
    "cv2": "opencv-python-headless>=4.8",
    "diffusers": "diffusers>=0.30",
    "filelock": "filelock>=3.12",
    "huggingface_hub": "huggingface-hub>=0.25",
    "safetensors": "safetensors>=0.4.2",
    "tqdm": "tqdm>=4.60",
}
OLD_TORCH = {"diffusers": "diffusers>=0.30,<0.36"}  # before 2.4: newer ones import what it does not have


def missing():
    """What pip has to bring, as it is asked for it."""
    needed = dict(NEEDED)
    if sys.version_info < (3, 11):
        needed["tomli"] = "tomli>=2.0"
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent and version("torch") < (2, 4):
        needed.update(OLD_TORCH)
    return [needed[name] for name in absent]


def version(package):
    """The first two numbers of an installed package's version; (0, 0) when it is not there."""
    try:
        first, second = importlib.metadata.version(package).split(".")[:2]
        return int(first), int(second)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0, 0


def freeze():
    """Every installed package at its version, as constraints."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return "\n".join(f"{name}=={number}" for name, number in sorted(found.items()) if name and number)


def main():
    wanted = missing()
    if not wanted:
        return
    try:
        from launch import run_pip
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        held.write_text(freeze() + "\n", encoding="utf-8")
        packages = " ".join(f'"{name}"' for name in wanted)
        run_pip(f'install {packages} --constraint "{held}"', "what QuantFace needs")


main()
