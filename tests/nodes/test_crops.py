"""Crop Faces and Paste Faces, with a treatment between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from quantface_core.charts.canvas import BLUE

CROP = {
    "faces": "all", "positions": "0", "order": "left-to-right", "size": 128, "min_confidence": 0.7, "min_size": 0,
    "smoothing": 0.0,
}  # fmt: skip
PASTE = {"strength": 1.0, "color": "none", "feather": 0.32}


@pytest.fixture
def crop(nodes: dict[str, Any]) -> Any:
    def cut(image: torch.Tensor, **changes: Any) -> tuple[Any, ...]:
        result = nodes["QuantFace_CropFaces"].execute(image=image, **{**CROP, **changes})
        return (*result.args, result.ui)

    return cut


@pytest.fixture
def paste(nodes: dict[str, Any]) -> Any:
    def put_back(face_crops: Any, crops: torch.Tensor | None, **changes: Any) -> tuple[Any, ...]:
        result = nodes["QuantFace_PasteFaces"].execute(face_crops=face_crops, crops=crops, **{**PASTE, **changes})
        return (*result.args, result.ui)

    return put_back


@pytest.fixture
def three(portrait: torch.Tensor) -> torch.Tensor:
    """Three faces in a row, of brightness 1, 0.8 and 0.6."""
    return torch.cat([portrait, portrait * 0.8, portrait * 0.6], dim=2)


def test_what_comes_back_as_it_went_out_changes_nothing(crop: Any, paste: Any, three: torch.Tensor) -> None:
    crops, where, masks, report, faces, *_ = crop(three)
    assert torch.equal(faces, crops)
    assert crops.shape == (3, 128, 128, 3)
    assert masks.shape == (3, 128, 128)
    assert report.splitlines()[0] == "image 0: 3 of 3 faces cropped"
    picture, _, report, _ = paste(where, crops)
    assert float((picture - three).abs().amax()) <= 2 / 65535
    assert float((picture == three).float().mean()) > 0.9


def test_a_treatment_lands_on_its_face(crop: Any, paste: Any, three: torch.Tensor) -> None:
    for order in ("left-to-right", "size", "confidence"):
        crops, where, *_ = crop(three, order=order)
        treated = crops.clone()
        brightest = int(crops.mean((1, 2, 3)).argmax())
        treated[brightest] = 0
        picture, _, report, ui = paste(where, treated)
        assert torch.equal(picture[:, :, 256:], three[:, :, 256:])
        assert float(picture[0, 120, 129].max()) < 0.02  # black in the middle of the first face
        assert "image 0: 1 of 3 faces pasted" in report
        assert torch.equal(ui["quantface_after"][0], picture[0])
        assert not torch.equal(paste(where, treated, strength=0.5)[0], picture)


def test_crops_come_back_at_another_size_and_onto_an_enlarged_background(
    crop: Any, paste: Any, photo: torch.Tensor
) -> None:
    crops, where, *_ = crop(photo)
    large = torch.nn.functional.interpolate(crops.movedim(-1, 1), scale_factor=2, mode="bicubic").movedim(1, -1)
    picture, *_ = paste(where, (large * 0.5).clamp(0, 1))
    assert picture.shape == photo.shape
    assert float((picture - photo)[0, 100:140, 205:245].mean()) < -0.1
    twice = torch.nn.functional.interpolate(photo.movedim(-1, 1), scale_factor=2, mode="bilinear").movedim(1, -1)
    picture, changed, *_ = paste(where, large * 0.5, background=twice)
    assert picture.shape == twice.shape
    assert torch.equal(picture[changed == 0], twice[changed == 0])


def test_faces_of_a_batch_go_back_to_their_frames(crop: Any, paste: Any, photo: torch.Tensor) -> None:
    frames = torch.cat([photo, torch.full_like(photo, 0.5), photo.flip(2)])
    alpha = torch.ones_like(frames[..., :1])
    crops, where, *_, ui = crop(torch.cat([frames, alpha], dim=-1))
    assert len(crops) == 2
    assert [len(shown) for shown in ui["images"]] == [1024] * 3
    picture, changed, *_ = paste(where, crops * 0)
    assert picture.shape == (3, 512, 512, 4)
    assert [bool(area.any()) for area in changed] == [True, False, True]
    assert torch.equal(picture[1, ..., :3], frames[1])


def test_positions_without_effect_are_told(crop: Any, photo: torch.Tensor) -> None:
    told = crop(photo, faces="largest", positions="1")[-1]["quantface_notes"]
    assert told == [["positions 1 has no effect: faces is largest"]]


def test_no_face_is_carried_over_a_cut(crop: Any, photo: torch.Tensor) -> None:
    bright = torch.full_like(photo, 0.9)
    shots = torch.cat([photo] * 4 + [bright] * 2 + [1 - (1 - photo) * 0.5] * 3)
    _, where, *_ = crop(shots, smoothing=2.0)
    assert [len(faces) for faces in where.faces] == [1] * 4 + [0] * 2 + [1] * 3


def test_without_a_face_the_picture_goes_on(crop: Any, paste: Any, nodes: dict[str, Any], photo: torch.Tensor) -> None:
    gray = torch.full((1, 64, 64, 3), 0.3)
    crops, where, masks, _, faces, boxes, segs, ui = crop(gray)
    assert type(faces).__name__ == "ExecutionBlocker"  # no black picture that Save Image would save
    assert crops.shape == (1, 128, 128, 3)
    assert masks.shape == (1, 128, 128)
    assert not crops.any()
    assert not masks.any()
    assert (boxes, segs) == ([[]], ((64, 64), []))
    assert ui["quantface_notes"] == [["no face was found: lower min_confidence, or mark faces with face_mask"]]
    ask = nodes["QuantFace_PasteFaces"].check_lazy_status
    assert ask(face_crops=where, crops=None) == []
    assert ask(face_crops=crop(photo)[1], crops=None) == ["crops"]
    assert torch.equal(paste(where, None)[0], gray)
    assert torch.equal(paste(where, 1 - crops)[0], gray)  # treated all the same, for another node
    told = crop(photo)[-1]
    assert len(ui["images"]) == 1
    assert ui.keys() == told.keys()  # of a list of pictures the host reads those of the first from all


def test_what_does_not_fit_is_told(crop: Any, paste: Any, three: torch.Tensor) -> None:
    crops, where, *_ = crop(three)
    with pytest.raises(Exception, match="crops: 2 came back of 3"):
        paste(where, crops[:2])
    with pytest.raises(Exception, match=r"square .* got 128x64"):
        paste(where, crops[:, :64])
    with pytest.raises(Exception, match="crops: they contain NaN"):
        paste(where, crops * float("nan"))
    with pytest.raises(Exception, match="connect the processed crops"):
        paste(where, None)
    with pytest.raises(Exception, match="mask: 2 for a batch of 1"):
        paste(where, crops, mask=torch.ones(2, 64, 64))
    with pytest.raises(Exception, match="positions 3: there are faces 0 to 2"):
        crop(three, faces="positions", positions="3")


def test_segs_name_faces_where_boxes_are(crop: Any, photo: torch.Tensor) -> None:
    """As Impact Pack gives them: the size of their picture, and segments with corners."""
    segment = SimpleNamespace(bbox=[175, 60, 275, 180], confidence=0.9, label="face")
    by_box, _, _, told, *_ = crop(photo, boxes=[{"x": 175, "y": 60, "width": 100, "height": 120}])
    by_segs, _, _, report, *_ = crop(photo, boxes=((512, 512), [segment]))
    assert torch.equal(by_segs, by_box)
    assert report == told
    halved = SimpleNamespace(bbox=np.array([87.5, 30, 137.5, 90]), confidence=0.9, label="face")
    assert torch.equal(crop(photo, boxes=((256, 256), [halved]))[0], by_box)
    assert crop(photo, boxes=((512, 512), []))[-1]["quantface_notes"] == [["no face: nothing is marked by boxes"]]
    with pytest.raises(Exception, match="boxes"):
        crop(photo, boxes=((512, 512), ["face"]))


def test_a_face_that_left_the_picture_is_left_out_of_both(crop: Any, paste: Any, photo: torch.Tensor) -> None:
    inside = {"x": 175, "y": 60, "width": 100, "height": 120}
    edge = {"x": 500, "y": 60, "width": 100, "height": 120}
    crops, where, *_ = crop(photo, boxes=[edge, inside])
    treated = crops.clone()
    treated[-1 if len(crops) == 1 else 0] = 0
    picture, _, report, _ = paste(where, treated)
    assert f"of {len(crops)} faces pasted" in report
    assert float(picture[0, 120, 225].max()) < 0.02


def test_what_is_shown_numbers_the_faces_and_marks_those_that_are_cut(crop: Any, three: torch.Tensor) -> None:
    blue = torch.tensor([int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    shown = [crop(three, faces="positions", positions=str(number))[-1]["images"][0] for number in range(3)]
    for number, picture in enumerate(shown):
        places = ((picture - blue).abs().amax(-1) < 0.01).nonzero()[:, 1]
        third = picture.shape[1] / 3
        assert len(places) > 1000
        assert number * third < places.min() < places.max() < (number + 1) * third


def test_boxes_and_segs_name_the_same_faces_to_the_next_node(crop: Any, three: torch.Tensor) -> None:
    for order in ("left-to-right", "confidence"):
        crops, where, _, _, _, boxes, segs, _ = crop(three, faces="positions", positions="1,2", order=order)
        for given in (boxes, segs):
            again, there, *_ = crop(three, boxes=given, order=order)
            centres = [[[f.box[0] + f.box[2] / 2 for f in faces] for faces in w.faces] for w in (where, there)]
            assert sorted(centres[0][0]) == pytest.approx(sorted(centres[1][0]), abs=2)
            assert len(again) == len(crops) == 2


def test_segs_have_what_a_detailer_reads(crop: Any, three: torch.Tensor) -> None:
    *_, boxes, (size, listed), _ = crop(three)
    assert size == (256, 768)
    for box, segment in zip(boxes[0], listed, strict=True):
        left, top, right, bottom = segment.bbox
        assert [left, top, right - left, bottom - top] == [box[side] for side in ("x", "y", "width", "height")]
        x0, y0, x1, y1 = segment.crop_region
        assert 0 <= x0 <= left < right <= x1 <= 768
        assert 0 <= y0 <= top < bottom <= y1 <= 256
        assert segment.cropped_mask.shape == (y1 - y0, x1 - x0)
        assert segment.cropped_mask[top - y0 : bottom - y0, left - x0 : right - x0].all()
        assert segment.cropped_mask.sum() == (right - left) * (bottom - top)
        assert (segment.label, segment.confidence) == (box["label"], box["score"])


def test_a_face_at_the_border_keeps_its_box_in_the_picture(crop: Any, photo: torch.Tensor) -> None:
    *_, boxes, segs, _ = crop(photo[:, 100:, 200:])
    ((box,),) = boxes
    (segment,) = segs[1]
    assert (box["x"], box["y"]) == segment.bbox[:2] == (0, 0)
    assert all(isinstance(box[side], int) for side in ("x", "y", "width", "height"))


def test_boxes_are_by_image_and_segs_of_one(crop: Any, photo: torch.Tensor) -> None:
    *_, boxes, segs, _ = crop(torch.cat([photo, torch.full_like(photo, 0.5), photo.flip(2)]))
    assert [len(here) for here in boxes] == [1, 0, 1]
    assert "one image" in segs.message
