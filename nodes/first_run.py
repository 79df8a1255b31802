"""The templates' example files: a portrait, an old print and a clip of it, copied into the input folder at start-up."""

from __future__ import annotations

import logging
import shutil

from . import host


def offer_examples() -> None:
    """Copy the files that are missing. An existing file is kept; a folder that cannot be written is logged."""
    from ..quantface_core.bundled import DEMO_CLIP, DEMO_PHOTO, DEMO_PRINT
    from ..quantface_core.errors import QuantFaceError
    from ..quantface_core.io.atomic import atomic_path

    examples = {"portrait.jpg": DEMO_PHOTO, "portrait.mp4": DEMO_CLIP, "old_print.jpg": DEMO_PRINT}
    for name, source in examples.items():
        target = host.input_folder(f"quantface_{name}")
        if target.exists():
            continue
        try:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        except (OSError, QuantFaceError) as error:
            logging.warning("QuantFace: could not copy the templates' %s to the input folder: %s", target.name, error)
