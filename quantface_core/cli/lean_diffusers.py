"""Import diffusers without the packages that it loads at once, if they are installed, but restoring never uses."""

from __future__ import annotations

import sys

_UNUSED = (
    *("accelerate", "peft", "transformers"),  # slow to import
    # Often built for another torch or NumPy than the installed one, which stops whatever imports them.
    *("bitsandbytes", "flash_attn", "gguf", "kernels", "optimum", "sageattention", "scipy", "torchao", "torchvision"),
    "xformers",
)


def import_lean_diffusers() -> None:
    """Import diffusers' models as if packages of adapters, text encoders, training and acceleration were not installed.

    Importing those takes longer than diffusers itself, and fails where one of them is broken. Diffusers goes on
    believing them absent for as long as the process lives, so this is for a process of one's own, which only restores;
    everything else imports them as usual.
    """
    if "diffusers" in sys.modules:
        return
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is for what cannot be imported
    try:
        from ..restorer import one_step  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
