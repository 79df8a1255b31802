"""The report of what became of a node's faces."""

from __future__ import annotations

from typing import Any


def test_long_reports_are_cut(pack: Any) -> None:
    from custom_nodes_quantface.nodes.report import Report

    from quantface_core.types import Face

    face = Face((0, 0, 10, 10), ((0, 0),) * 5, 0.9)
    crowd = Report("restored")
    crowd.picture([face] * 290, range(290), range(0, 290, 2))
    lines = crowd.text().splitlines()
    assert len(lines) == 42
    assert lines[0] == "image 0: 145 of 290 faces restored"
    assert lines[-1] == "  and 250 more, 125 of them restored"
    for number in range(30):
        crowd.note(f"note {number // 2}")
    assert crowd.shown_notes() == [*(f"note {number}" for number in range(5)), "and 10 more such notes"]
    video = Report("restored")
    for _ in range(290):
        video.picture([face], [0], [0])
    lines = video.text().splitlines()
    assert len(lines) == 81
    assert lines[-1] == "and 250 more images: 250 of 250 faces restored"
