"""QuantFace as a ComfyUI node pack. The library is `quantface_core`; the nodes are in `nodes`."""

import importlib.util

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY"]

# Test runners import this file too, without ComfyUI and outside of a package.
if __package__ and importlib.util.find_spec("comfy_api"):
    from .nodes import comfy_entrypoint

    __all__ += ["comfy_entrypoint"]
