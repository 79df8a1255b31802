"""Which faces are found, marked and chosen, and what is told of those that are not."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def test_boxes_and_masks_take_the_detectors_place(restore: Any, photo: torch.Tensor) -> None:
    detected, _, area, *_ = restore(photo)
    box = {"x": 175, "y": 60, "width": 100, "height": 120}
    white = torch.zeros(1, 512, 512)
    white[:, 60:180, 175:275] = 1
    for given in ({"boxes": box}, {"boxes": [box]}, {"boxes": [[box]]}, {"face_mask": white}):
        picture, _, changed, report, _ = restore(photo, **given)
        assert "confidence 1.00" in report
        assert float((changed - area).abs().mean()) < 0.02
        assert float((picture - detected).abs().mean()) < 0.005
    elsewhere = {"x": 400, "y": 350, "width": 60, "height": 70}
    _, _, changed, *_ = restore(photo, boxes=[elsewhere])
    assert changed[0, 300:450, 350:500].any()
    assert not changed[0, :200].any()
    with pytest.raises(Exception, match="boxes: 3 for a batch of 1"):
        restore(photo, boxes=[[box], [], []])
    with pytest.raises(Exception, match="boxes: give x"):
        restore(photo, boxes=[7])


def test_several_face_masks_of_one_image_are_a_face_each(restore: Any, photo: torch.Tensor) -> None:
    """As segmenters make them."""
    two = torch.cat([photo, photo], dim=2)
    masks = torch.zeros(2, 512, 1024)
    masks[0, 60:180, 175:275] = masks[1, 60:180, 687:787] = 1
    picture, _, _, report, _ = restore(two, face_mask=masks)
    assert "2 of 2 faces restored" in report
    assert torch.equal(picture, restore(two, face_mask=masks.amax(0))[0])


def test_face_masks_go_one_to_one_with_the_images(
    restore: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = torch.zeros(2, 512, 512)
    masks[1, 60:180, 175:275] = 1
    report = restore(torch.cat([photo, photo]), face_mask=masks)[3]
    assert "image 0: 0 of 0 faces" in report
    assert "image 1: 1 of 1 faces" in report
    yunet = importlib.import_module("custom_nodes_quantface.quantface_core.faces.yunet")
    monkeypatch.setattr(yunet.YuNet, "_detected", lambda *_: pytest.fail("looked for faces"))
    with pytest.raises(Exception, match="face_mask: 2 for a batch of 3: connect one for all"):
        restore(torch.cat([photo] * 3), face_mask=masks)


def test_what_marks_no_face_is_told(restore: Any, photo: torch.Tensor) -> None:
    model_notes = [
        ({"mask": torch.cat([torch.zeros(1, 64, 48), torch.ones(1, 64, 16)], 2)}, "mask: no face in its white area"),
        ({"face_mask": torch.zeros(1, 64, 64)}, "no face: nothing is marked by face_mask"),
        ({"boxes": []}, "no face: nothing is marked by boxes"),
        ({"min_confidence": 1.0}, "none of 1 faces reaches both min_confidence"),
    ]
    for given, told in model_notes:
        picture, _, changed, report, ui = restore(photo, **given)
        assert torch.equal(picture, photo)
        assert not changed.any()
        assert report.startswith(told)
        assert len(ui["quantface_notes"][0]) == 1


def test_a_box_outside_is_told(restore: Any, photo: torch.Tensor) -> None:
    inside = {"x": 170, "y": 60, "width": 110, "height": 140}
    _, _, changed, report, ui = restore(photo, boxes=[inside, {**inside, "x": 5000}])
    assert changed.any()
    assert "1 of 1 faces" in report
    assert ui["quantface_notes"] == [["image 0: 1 of 2 boxes lie outside it"]]


def test_a_position_that_no_face_has_names_the_range(restore: Any, portrait: torch.Tensor) -> None:
    three = torch.cat([portrait, portrait, portrait], dim=2)
    with pytest.raises(Exception, match="positions 7: there are faces 0 to 2"):
        restore(three, faces="positions", positions="7")
    with pytest.raises(Exception, match="positions 1: there is only face 0"):
        restore(portrait, faces="positions", positions="1")
    _, crops, _, report, ui = restore(three, faces="positions", positions="1-3,")
    assert len(crops) == 2
    assert ui["quantface_notes"] == [["positions 3: there are faces 0 to 2"]]
    assert "2 of 3 faces restored" in report
    frames = torch.cat([three, torch.zeros_like(three)])  # of several pictures one may have the face
    assert "positions" not in restore(frames, faces="positions", positions="2")[3]


def test_cancel_ends_the_search_for_faces_between_two_pieces(
    restore: Any, load: Any, host: SimpleNamespace, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of which is large: tests/faces/test_detect.py."""
    yunet = importlib.import_module("custom_nodes_quantface.quantface_core.faces.yunet")
    calls, detected = [], yunet.YuNet._detected

    def cancelled_meanwhile(self: Any, *given: Any) -> Any:
        calls.append(host.cancelled)
        found = detected(self, *given)
        host.cancelled = True
        return found

    monkeypatch.setattr(yunet.YuNet, "_detected", cancelled_meanwhile)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        restore(photo, load())
    assert type(caught.value).__name__ == "Cancelled"
    assert calls == [False, True]  # the second ends before its network runs
