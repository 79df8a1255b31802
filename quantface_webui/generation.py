"""Restore faces: an entry among the host's face restorers, its settings page, and the infotext of generated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantface_core.errors import QuantFaceError
from quantface_core.io.model_menu import choice_path, strip_mark
from quantface_core.options import COLORS

from . import host
from .restore import applicable, choices, restore
from .settings import AUTO, NAMES, Settings, infotext_name, read_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "QuantFace"
_ERROR = "error"  # in infotext: why faces are not restored
_SECTION = ("quantface", "QuantFace", "postprocessing")


def register_restorer() -> None:
    """Add ours to the host's face restorers, replacing an earlier one of the same name."""
    from modules import face_restoration, shared

    class Restorer(face_restoration.FaceRestoration):  # type: ignore[misc]
        def name(self) -> str:
            return NAME

        def restore(self, np_image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return restore_or_original(np_image)

    shared.face_restorers[:] = [known for known in shared.face_restorers if known.name() != NAME]
    shared.face_restorers.append(Restorer())


def restore_or_original(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Restore the faces of an RGB image [H, W, 3]; on an error return it unchanged, so that the image is not lost."""
    try:
        return restore(pixels, settings()).pixels
    except host.Interrupted:
        pass
    except QuantFaceError as error:
        host.report(str(error))
    except Exception as error:
        host.report(str(error), exc_info=True)
    return pixels


def settings() -> Settings:
    """The values of the settings page. Raises UsageError."""
    return applicable(read_settings({name: host.option(name) for name in NAMES}))


def add_options() -> None:
    """The settings page, for `on_ui_settings`."""
    import gradio as gr
    from modules import shared

    usual = Settings()
    strengths = [AUTO, *(f"{tenths / 10:.1f}" for tenths in range(10, -1, -1))]
    share = {"minimum": 0, "maximum": 1}

    def add(name: str, label: str, component: Any, arguments: Any, note: str = "", refresh: Any = None) -> None:
        value = getattr(usual, name)
        value = -1 if value is None else value
        option = shared.OptionInfo(
            value, label, component, arguments, section=_SECTION[:2], category_id=_SECTION[2], refresh=refresh,
            infotext=infotext_name(name),
        )  # fmt: skip
        shared.opts.add_option(f"quantface_{name}", option.info(note) if note else option)

    def models() -> dict[str, Any]:  # without marks, so that a saved choice stays valid once its model is local
        return {"choices": [strip_mark(name) for name in choices()]}

    menu = "for Restore faces with QuantFace as its model; a missing model is fetched or built at first use"
    add("model", "QuantFace model", gr.Dropdown, models, menu, lambda: None)
    add("visibility", "QuantFace visibility", gr.Slider, {**share, "step": 0.01})
    add("strength", "Strength", gr.Dropdown, {"choices": strengths}, "auto: as much as each face needs")
    add("faces", "Faces", gr.Textbox, {}, "all, largest, or positions from the left such as 0,2")
    add("color", "Colour matching", gr.Radio, {"choices": list(COLORS)}, "how faces take on the image's colours")
    add("min_size", "Minimum face size (pixels)", gr.Slider, {"minimum": 0, "maximum": 1024, "step": 1})
    add("min_confidence", "Minimum face confidence", gr.Slider, {**share, "step": 0.05})
    add("feather", "Edge softness", gr.Slider, {**share, "step": 0.02}, "0: hard edge, 1: fading from the centre")
    add("grain", "Grain kept", gr.Slider, {**share, "step": 0.05}, "how much of a face's noise stays, where it has any")
    add("seed", "Face seed (-1: none)", gr.Number, {"precision": 0})
    add(
        "fidelity",
        "CodeFormer fidelity",
        gr.Slider,
        {**share, "step": 0.05},
        "0: looks best, 1: nearest to the face",
    )


def add_infotext(p: Any) -> None:
    """Add to a generated image's infotext how its faces are restored, or why they will not be.

    What is wrong also appears below the image: on the console alone it would be overlooked.
    """
    from modules import shared

    for name in (*NAMES, _ERROR):  # a grid's cells, and a reused job, share one set of parameters
        p.extra_generation_params.pop(infotext_name(name), None)
    if p.restore_faces and shared.opts.face_restoration_model == NAME:
        try:
            chosen = settings()
            choice_path(chosen.model, host.model_file)
        except QuantFaceError as error:
            p.extra_generation_params[infotext_name(_ERROR)] = str(error)
            p.comment(f"QuantFace: {error}")
        else:
            p.extra_generation_params |= chosen.infotext()


def fill_in(_: str, params: dict[str, Any]) -> None:
    """For `on_infotext_pasted`: add the defaults that a text omits, as the settings page may differ from them."""
    if infotext_name("model") in params:
        for name in NAMES:
            value = getattr(Settings(), name)
            params.setdefault(infotext_name(name), str(-1 if value is None else value))
