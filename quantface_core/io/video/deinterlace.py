"""Interlaced frames, whose odd and even lines are of different times, made whole by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

NEIGHBOURS = 2
"""Frames before one that it is made from, and one more, since the first of all has no field before it."""


def deinterlaced(frames: Iterator[Any], time_base: Fraction) -> Iterator[Any]:
    """Yield a whole frame for each of PyAV's, with its own time, in units of `time_base`.

    Of a film whose first frame is marked as interlaced, only frames so marked are changed; else all: captures are often
    not marked. All must have the first one's size. Raises FFmpegError.
    """
    graph = None
    for frame in frames:
        if graph is None:
            graph = _graph(frame, time_base)
        graph.vpush(frame)
        yield from _pulled(graph, time_base)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, time_base)


def _graph(first: Any, time_base: Fraction) -> Any:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format.name, time_base=time_base)
    which = "interlaced" if first.interlaced_frame else "all"
    graph.link_nodes(source, graph.add("bwdif", f"send_frame:auto:{which}"), graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Any, time_base: Fraction) -> Iterator[Any]:
    import av

    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):  # it needs more frames, or has had the last
            return
        if frame.pts is not None:  # the filter counts fields
            frame.pts = round(frame.pts * frame.time_base / time_base)
        frame.duration, frame.time_base = round(frame.duration * frame.time_base / time_base), time_base
        yield frame
