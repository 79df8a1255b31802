"""Interlaced frames, two fields of different times each, made progressive by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any


def deinterlaced(frames: Iterator[Any], time_base: Fraction, flagged: bool) -> Iterator[Any]:
    """Yield a progressive frame for each of PyAV's, at its first field's time, in units of `time_base`.

    Of a `flagged` film only frames that are flagged as interlaced are changed; else all, since captures often lack the
    flag. A frame is made from itself and its two neighbours. All must have the first one's size. Raises FFmpegError.
    """
    graph, waiting = None, deque[Any]()
    for frame in frames:
        graph = graph or _graph(frame, time_base)
        waiting.append(frame)
        graph.vpush(frame)
        yield from _pulled(graph, waiting, flagged)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, waiting, flagged)


def _graph(first: Any, time_base: Fraction) -> Any:
    from av.filter import Graph

    graph, name = Graph(), first.format.name
    source = graph.add_buffer(width=first.width, height=first.height, format=name, time_base=time_base)
    wide = name if name == "gray" or not name.startswith("gray") else "gray16le"  # bwdif lacks 9 to 14 bits of it
    steps = [("format", wide), ("bwdif", "send_frame"), ("format", name), ("buffersink", None)]
    graph.link_nodes(source, *(graph.add(*step) for step in steps)).configure()
    return graph


def _pulled(graph: Any, waiting: deque[Any], flagged: bool) -> Iterator[Any]:
    import av

    while True:
        try:
            progressive = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):  # it needs more frames, or has had the last
            return
        frame = waiting.popleft()
        # The filter counts fields.
        progressive.pts, progressive.duration, progressive.time_base = frame.pts, frame.duration, frame.time_base
        yield frame if flagged and not frame.interlaced_frame else progressive
