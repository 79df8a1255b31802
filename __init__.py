"""QuantFace as a ComfyUI node pack. The library is `quantface_core`; the nodes are in `nodes`."""

import importlib.util
import logging
import sys
from pathlib import Path

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY"]

# Imported by the nodes only when they run. Checked here, so that ComfyUI reports what is missing at start-up, as a
# failed import of this pack, and not in the middle of a workflow.
_NEEDED = ["cv2", "diffusers", "filelock", "huggingface_hub", "peft", "pulp", "safetensors", "tqdm"]
if sys.version_info < (3, 11):
    _NEEDED.append("tomli")


def _other_copy() -> Path | None:
    """The folder of a copy of this pack that is loaded already, such as an unpacked ZIP beside a clone."""
    paths = (core.__file__ for name, core in [*sys.modules.items()] if name.endswith(".quantface_core"))
    return next((Path(path).parents[1] for path in paths if path), None)


# Test runners import this file too, without ComfyUI and outside a package.
if __package__ and importlib.util.find_spec("comfy_api"):
    other = _other_copy()  # before this one is imported
    from .quantface_core.requirements import is_present, python_command

    if missing := [name for name in _NEEDED if not is_present(name)]:
        remedy = f'{python_command()} "{Path(__file__).with_name("install.py")}"'
        raise ImportError(f"QuantFace needs {', '.join(missing)}: {remedy}")
    if other:  # the page may run the scripts of one with the nodes of the other
        logging.warning("QuantFace is installed twice: remove %s or %s, and restart", other, Path(__file__).parent)
    from .quantface_core.runtime.threads import spin_briefly

    spin_briefly()  # takes effect if torch is not loaded yet, and in the processes that nodes start
    from .nodes import comfy_entrypoint

    __all__ += ["comfy_entrypoint"]
