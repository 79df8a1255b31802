"""A batch of pictures: masks, backgrounds, and what was changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_a_mask_keeps_the_change_inside(restore: Any, photo: torch.Tensor) -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, :, 224:] = 1
    picture, _, changed, *_ = restore(photo, mask=mask)
    assert torch.equal(picture[:, :, :223], photo[:, :, :223])
    assert not torch.equal(picture[:, :, 225:], photo[:, :, 225:])
    assert not changed[:, :, :223].any()


def test_faces_are_pasted_onto_an_enlarged_background(restore: Any, photo: torch.Tensor) -> None:
    background = torch.nn.functional.interpolate(photo.movedim(-1, 1), scale_factor=1.5, mode="bilinear").movedim(1, -1)
    picture, _, changed, *_ = restore(photo, background=background)
    assert picture.shape == (1, 768, 768, 3)
    assert torch.equal(picture[changed == 0], background[changed == 0])
    assert float((picture - background).abs().amax()) > 0.02


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (4, {"background": torch.zeros(2, 64, 64, 3)}, "background: 2 for a batch of 4: connect one for all"),
        (1, {"background": torch.zeros(2, 64, 64, 3)}, "background: 2 for a batch of 1"),
        (2, {"mask": torch.ones(3, 64, 64)}, "mask: 3 for a batch of 2"),
        (2, {"background": torch.zeros(1, 64, 70, 3)}, "background must be the photo enlarged, but it is 70x64"),
        (2, {"background": torch.zeros(1, 64, 64, 3), "upscale": "2"}, "enlarged already: set upscale to 1"),
    ],
)
def test_what_does_not_fit_is_told_before_the_work(
    restore: Any, photo: torch.Tensor, count: int, given: dict[str, Any], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    detector = "custom_nodes_quantface.quantface_core.faces.detect.FaceDetector"
    monkeypatch.setattr(f"{detector}.__call__", lambda *_: pytest.fail("looked for faces"))
    with pytest.raises(Exception, match=message):
        restore(photo.expand(count, -1, -1, -1), **given)


def test_backgrounds_go_one_to_one_with_the_images(restore: Any) -> None:
    gray, backgrounds = torch.full((3, 64, 64, 3), 0.3), torch.rand(3, 96, 96, 3)
    assert torch.equal(restore(gray, background=backgrounds)[0], backgrounds)
    assert torch.equal(restore(gray, background=backgrounds[1:2])[0], backgrounds[1:2].expand(3, -1, -1, -1))


def test_a_black_mask_is_seen_before_the_work(
    restore: Any, full: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Load Image gives for a photo without transparency."""
    monkeypatch.setattr(type(full), "ready", lambda *_: pytest.fail("brought to the device"))
    detector = "custom_nodes_quantface.quantface_core.faces.detect.FaceDetector"
    monkeypatch.setattr(f"{detector}.__call__", lambda *_: pytest.fail("looked for faces"))
    dark = torch.zeros(1, 64, 64)
    picture, crops, changed, report, ui = restore(photo, mask=dark)
    assert torch.equal(picture, photo)
    assert not changed.any()
    assert type(crops).__name__ == "ExecutionBlocker"
    assert report.startswith("mask is black all over")
    assert ui["quantface_notes"] == [[report.splitlines()[0]]]
    assert restore(photo, mask=dark, upscale="2")[0].shape == (1, 1024, 1024, 3)


def test_frames_whose_mask_is_black_are_left_out(restore: Any, photo: torch.Tensor) -> None:
    masks = torch.stack([torch.zeros(64, 64), torch.ones(64, 64)])
    picture, crops, changed, report, ui = restore(torch.cat([photo, photo]), mask=masks)
    assert torch.equal(picture[0], photo[0])
    assert changed[1].any()
    assert len(crops) == 1
    assert "image 0: its mask is black" in report
    assert ui["quantface_notes"] == [[]]


def test_a_face_is_restored_when_a_pixel_changed(restore: Any, portrait: torch.Tensor) -> None:
    two = torch.cat([portrait, portrait.flip(2)], dim=2)
    left = torch.zeros(1, 256, 512)
    left[..., :256] = 1
    for size in ("1", "2"):
        report = restore(two, mask=left, upscale=size)[3]
        assert "image 0: 1 of 2 faces restored" in report
        first, second = (line.rsplit(", ", 1)[1] for line in report.splitlines()[1:])
        assert first.startswith("restored")
        assert second == "no pixel changed"
    report = restore(two, strength=0.0)[3]
    assert "0 of 2 faces restored" in report
    assert report.count("no pixel changed") == 2
