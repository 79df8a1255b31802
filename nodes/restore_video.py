"""Restore Video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..quantface_core.options import RestoreOptions
from . import host, host_video, previews
from .face_detection import check_selection, chosen, limit_inputs, selection_inputs, unused_positions
from .fr_model import FRModel
from .host import FRModelSocket
from .memory import memory_given_back
from .report import Report
from .restore_options import (
    blend_input,
    color_input,
    feather_input,
    fidelity_input,
    grain_input,
    restore_options,
    seed_input,
    strength_input,
    unused_strength,
    upscale_input,
)

if TYPE_CHECKING:
    from ..quantface_core.pipelines.film_report import FilmResult

_PREVIEW = 512  # pixels, longest side of a finished frame's preview
_TRACKS = 40  # listed in the report


class RestoreVideo(io.ComfyNode):
    """Restores the faces of a video, from file to file: its length is not limited by memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_RestoreVideo",
            display_name="Restore Video",
            description="Restores every face in a video of any length, steadily, and keeps its sound and timing.",
            search_aliases=["video face restoration", "film", "face fix", "gfpgan", "codeformer", "quantface"],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="From Load Quantized FR Model."),
                io.Video.Input("video", tooltip="From Load Video. Frames are read one by one, never all at once."),
                *selection_inputs("numbers as in the report, such as 0,2 or 0-3."),
                blend_input(),
                strength_input(),
                io.Float.Input("smoothing", default=2.0, min=0.0, max=30.0, step=0.5,
                               tooltip="Steadies faces over about this many frames before and after, and closes short "
                               "gaps. 0 = each frame on its own."),
                color_input(),
                upscale_input(),
                *limit_inputs(),
                feather_input(),
                seed_input(),
                fidelity_input(),
                grain_input(),
                io.Boolean.Input("deinterlace", default=False, optional=True,
                                 tooltip="For home videos (DV, VHS, DVD, 1080i): each frame's odd and even lines, of "
                                 "different times, become one whole frame."),
            ],
            outputs=[
                io.Video.Output("video_out", display_name="video", tooltip="The restored video, with its sound."),
                io.String.Output("report", display_name="report", tooltip="What was found and done, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, faces: str | None = None, positions: str | None = None) -> bool | str:
        return check_selection(faces, positions)

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        video: Any,
        faces: str,
        positions: str,
        min_confidence: float,
        min_size: int,
        smoothing: float,
        strength: float,
        deinterlace: bool = False,
        **given: Any,
    ) -> io.NodeOutput:
        from ..quantface_core.io.video import FilmReader, choose_container
        from ..quantface_core.pipelines.film import restore_film
        from ..quantface_core.pipelines.film_request import FilmRequest
        from ..quantface_core.stages.film import GROUP

        report = Report("restored")
        report.note(unused_positions(faces, positions))
        selection = chosen(faces, positions, RestoreOptions.order, min_confidence, min_size)
        options = restore_options(fr_model, selection, strength=strength, **given)
        report.note(unused_strength(options, strength))
        bar = host.Progress()
        callbacks = replace(bar.callbacks(preview_side=_PREVIEW), notify=report.note)
        with host_video.working_folder() as folder:
            source = host_video.file_of(video, folder)
            container = choose_container(source.path.suffix.lower(), FilmReader(source.path).info)
            made = folder / f"restored{container}"
            request = FilmRequest(
                source.path,
                made,
                fr_model.ready(GROUP),
                options,
                smoothing=smoothing,
                start=source.start,
                end=source.end,
                deinterlace=deinterlace,
            )
            with memory_given_back():
                result = restore_film(request, callbacks)
            restored, shown = host_video.keep(made)
        report.note(_missing(result, faces))
        text = "\n".join([*report.shown_notes(), *_lines(result)])
        return io.NodeOutput(restored, text, ui=shown | previews.notes_below(report.shown_notes()))


def _missing(result: FilmResult, faces: str) -> str:
    """A note on a video in which nothing was restored; empty otherwise."""
    if not result.tracks and faces == "positions":
        return "no face has such a position: set faces to all, and the report lists them"
    if not result.tracks:
        return "no face was found: lower min_confidence"
    return ""


def _lines(result: FilmResult) -> list[str]:
    """The report: the video, then its faces."""
    lines = [
        f"{result.frames} frames, {result.seconds:g} s, {result.width}x{result.height}, {result.codec}; "
        f"{len(result.tracks)} faces in {result.shots} shots"
    ]
    for track in result.tracks[:_TRACKS]:
        left, top, width, height = (round(v) for v in track.begins)
        lines.append(
            f"  face {track.number}: {track.first:g} to {track.last:g} s, {width}x{height} at {left},{top} at first, "
            f"{track.outcome}"
        )
    if rest := len(result.tracks) - _TRACKS:
        lines += [f"  and {rest} more"] if rest > 0 else []
    return lines
