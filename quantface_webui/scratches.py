"""The accordion of the Extras tab that repairs the scratches of old prints, before all else is done to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from quantface_core.errors import QuantFaceError

from . import host
from .pictures import to_pixels, with_pixels
from .settings import infotext_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantface_core.types import Pixels, Repair

_ABOUT = "Finds the scratches, cracks and dust of old prints, and draws what was there."


def controls() -> dict[str, Any]:
    """The control, by the argument name of `process`; none if it cannot be built, so that the host's page loads."""
    try:
        import gradio as gr
        from modules import ui_components

        with ui_components.InputAccordion(False, label="Repair Scratches") as enable:
            gr.Markdown(_ABOUT)
        return {"enable": enable}
    except Exception as error:
        host.report(f"no Repair Scratches in the Extras tab: {error}", exc_info=True)
        return {}


def process(pp: Any, enable: bool | None) -> None:
    """Repair `pp.image` in place, once: hosts that know a first pass call it there, before they note the image.

    An error is shown and leaves the image unchanged: it may be one of hundreds.
    """
    if not enable or getattr(pp, "quantface_repaired", False):
        return
    pp.quantface_repaired = True
    try:
        pp.image.load()  # the host opens a file without reading it
    except Exception:  # whatever a decoder raises: what comes next says so
        return
    try:
        found = repair(to_pixels(pp.image))
        pp.image = with_pixels(pp.image, cast("NDArray[np.uint8]", found.pixels)) if found.share else pp.image
        pp.info[infotext_name("scratches")] = f"{found.share:.1%} repaired" if found.share else "none found"
    except host.Interrupted:
        host.skip_picture()
    except Exception as error:  # whatever it is, the batch's other images come next
        host.report(str(error), exc_info=not isinstance(error, QuantFaceError))
        pp.info[infotext_name("error")] = str(error)


def repair(pixels: Pixels) -> Repair:
    """Repair an RGB image [H, W, 3], with the page's progress. Raises QuantFaceError, host.Interrupted."""
    from quantface_core.faces.scratches import repair_scratches

    with host.Progress() as progress:

        def show(done: int, total: int) -> None:
            host.stop_if_interrupted()
            progress(done, total, "QuantFace: scratches")

        return repair_scratches(pixels, show)
