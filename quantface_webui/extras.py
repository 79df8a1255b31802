"""The accordion of the Extras tab: its controls, and how they are applied to an image."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from quantface_core.errors import QuantFaceError
from quantface_core.options import COLORS, FACE_CHOICES

from . import host
from .pictures import to_pixels, with_pixels
from .restore import applicable, choice, choices, offers_fidelity, restore
from .settings import AUTO, Settings, infotext_name, read_infotext, read_settings

if TYPE_CHECKING:
    from PIL import Image

    from .restore import RestoreResult

_POSITIONS = "positions"
_OTHER_RESTORERS = ("GFPGAN visibility", "CodeFormer visibility")  # what their scripts note of their work
_ALIKE = 12.0  # mean difference, of 255, from the original, up to which an image is that enlarged, and nothing else
_source: Any = None  # the tab's image component


def notice_source(component: Any, **options: Any) -> None:
    """For `on_after_component`: remember the Extras tab's image component when it is made."""
    global _source
    if options.get("elem_id") == "extras_image":
        _source = component


def controls() -> dict[str, Any]:
    """The controls, by the argument names of `process`; none if they cannot be built, so that the host's page loads."""
    try:
        return _controls()
    except Exception as error:
        host.report(f"no controls in the Extras tab: {error}", exc_info=True)
        return {}


def _controls() -> dict[str, Any]:
    import gradio as gr
    from modules import ui_common, ui_components

    usual = Settings()
    with ui_components.InputAccordion(False, label="QuantFace") as enable:
        with ui_components.FormRow():
            model = gr.Dropdown(choices(), value=choice(usual.model), label="QuantFace model")
            ui_common.create_refresh_button(model, lambda: None, lambda: {"choices": choices()}, "quantface_refresh")
            if _source is not None:  # not where the host shows the controls beside generation
                tip = "Use the source image's settings"
                read = ui_components.ToolButton("↙️", elem_id="quantface_read", tooltip=tip)
        with ui_components.FormRow():
            visibility = gr.Slider(0, 1, usual.visibility, step=0.01, label="QuantFace visibility")
            automatic = gr.Checkbox(True, label="Automatic strength")
            strength = gr.Slider(0, 1, 1, step=0.05, label="Strength")
        with ui_components.FormRow():
            faces = gr.Radio([*FACE_CHOICES, _POSITIONS], value=usual.faces, label="Faces")
            positions = gr.Textbox("0", label="Positions from the left, such as 0,2")
            color = gr.Radio(list(COLORS), value=usual.color, label="Colour matching")
        with ui_components.FormRow():
            min_size = gr.Slider(0, 1024, usual.min_size, step=1, label="Minimum face size (pixels)")
            min_confidence = gr.Slider(0, 1, usual.min_confidence, step=0.05, label="Minimum face confidence")
            feather = gr.Slider(0, 1, usual.feather, step=0.02, label="Edge softness")
            grain = gr.Slider(0, 1, usual.grain, step=0.05, label="Grain kept")
            seed = gr.Number(-1, precision=0, label="Face seed (-1: none)")
            fidelity = gr.Slider(0, 1, usual.fidelity, step=0.05, label="CodeFormer fidelity", visible=False)
    model.change(lambda name: gr.update(visible=offers_fidelity(name)), [model], [fidelity], show_progress=False)
    made = {
        "enable": enable, "model": model, "visibility": visibility, "automatic": automatic, "strength": strength,
        "faces": faces, "positions": positions, "color": color, "min_size": min_size, "min_confidence": min_confidence,
        "feather": feather, "grain": grain, "seed": seed, "fidelity": fidelity,
    }  # fmt: skip
    if _source is not None:

        def show(picture: Any) -> list[Any]:  # gradio evaluates what its handlers are annotated with
            values = _shown_settings(picture)
            return [values.get(name, gr.update()) for name in made]

        read.click(show, [_source], list(made.values()), show_progress=False)
    return made


def notice_original(pp: Any, enable: bool | None) -> None:
    """Remember an image before any script has processed it: upscaling networks invent small faces."""
    if enable:
        pp.quantface_original = pp.image


def process(pp: Any, enable: bool | None, **values: Any) -> None:
    """Restore `pp.image` in place. The host's API passes None for every control, because it does not know ours.

    An error is shown and leaves the image unchanged: it may be one of hundreds.
    """
    if not enable:
        return
    try:
        pp.image.load()  # the host opens a file without reading it
    except Exception as error:  # whatever a decoder raises
        host.report(f"a damaged image is skipped ({error})")
        host.skip_picture()  # it cannot be saved either, and that would end the batch
        return
    try:
        settings = _settings(**values)
        if settings.visibility == 0:
            return
        pp.image, result = _restored(pp.image, settings, _original(pp))
    except host.Interrupted:
        host.skip_picture()
        return
    except QuantFaceError as error:
        host.report(str(error))
        pp.info[infotext_name("error")] = str(error)
    except Exception as error:  # whatever it is, the batch's other images come next
        host.report(str(error), exc_info=True)
        pp.info[infotext_name("error")] = f"{type(error).__name__}: {error}"
    else:
        pp.info |= settings.infotext()
        pp.info[infotext_name("restored")] = _told(result, settings)


def _settings(automatic: bool | None, strength: Any, faces: str | None, positions: str | None, **rest: Any) -> Settings:
    """Settings from the controls' values, by name."""
    which = positions or "0" if faces == _POSITIONS else faces
    return applicable(read_settings({**rest, "strength": strength if automatic is False else AUTO, "faces": which}))


def _told(result: RestoreResult, settings: Settings) -> str:
    """What was done, or why nothing was, for the line below the image; the host quotes what has a comma or colon."""
    if not result.faces:
        missed = {"smaller than the minimum size": result.small, "below the minimum confidence": result.doubtful}
        return "; ".join(["no face", *(f"{count} {why}" for why, count in missed.items() if count)])
    done = f"{len(result.restored) - result.unchanged} of {len(result.faces)} faces"
    if not result.restored and settings.faces not in FACE_CHOICES:
        return f"{done} (none has such a position)"
    if not result.unchanged:
        return done
    return f"{done}; {result.unchanged} left as before" + (" (no gain expected)" if settings.strength == AUTO else "")


def _original(pp: Any) -> Any:
    """The image as it was before an upscaler enlarged it, RGB [H, W, 3]; None where that is not all that was done."""
    import cv2
    import numpy as np

    first = getattr(pp, "quantface_original", None)
    if first is None or any(name in pp.info for name in _OTHER_RESTORERS):
        return None
    (width, height), (wide, tall) = first.size, pp.image.size
    if wide <= width or abs(wide * height - tall * width) > 0.01 * tall * width:
        return None
    before, after = (to_pixels(image) for image in (first, pp.image))
    reduced = cv2.resize(after, (width, height), interpolation=cv2.INTER_AREA)
    return before if np.abs(reduced.astype(float) - before).mean() < _ALIKE else None


def _restored(picture: Image.Image, settings: Settings, original: Any = None) -> tuple[Image.Image, RestoreResult]:
    """An image with its faces restored, its transparency unchanged; of an enlarged one, the faces of its `original`."""
    pixels = to_pixels(picture)
    result = restore(pixels, settings) if original is None else restore(original, settings, pixels)
    return (with_pixels(picture, result.pixels) if result.restored else picture), result


def _shown_settings(picture: Image.Image | None) -> dict[str, Any]:
    """Values for the controls, by name, from an image's text; empty, which leaves them unchanged, if it has none.

    The page says so, but shows nothing of the text itself: it would take HTML in it for its own.
    """
    import gradio as gr

    try:
        settings = _saved_settings(picture) if picture is not None else None
    except QuantFaceError as error:
        host.report(f"the image's settings cannot be used: {error}")
        gr.Warning("The source image's QuantFace settings cannot be used: the console says why")
        return {}
    if settings is None:
        gr.Warning("The source image has no QuantFace settings")
        return {}
    listed = settings.faces in FACE_CHOICES
    automatic = settings.strength == AUTO
    return {
        **asdict(settings),
        "enable": True,
        "model": choice(settings.model),
        "automatic": automatic,
        "strength": 1.0 if automatic else settings.strength,
        "faces": settings.faces if listed else _POSITIONS,
        "positions": "0" if listed else settings.faces,
        "seed": -1 if settings.seed is None else settings.seed,
    }


def _saved_settings(picture: Image.Image) -> Settings | None:
    """The settings recorded in an image's text: this tab's, else those it was generated with. Raises UsageError.

    What that text omits has its default, whatever the other text says.
    """
    from modules import images

    generated, others = images.read_info_from_image(picture)
    texts = (others.get("extras"), others.get("postprocessing"), generated)
    return next((found for text in texts if text and (found := read_infotext(str(text)))), None)
