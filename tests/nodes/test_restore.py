"""Restore Face against the stand-in."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def test_a_photo_is_restored_and_the_rest_stays_exactly(restore: Any, load: Any, photo: torch.Tensor) -> None:
    photo = photo * 0.999 + 0.0003  # values between the 16-bit steps
    picture, crops, changed, report, ui = restore(photo, load())
    assert picture.shape == photo.shape
    assert crops.shape == (1, 256, 256, 3)
    assert 0.01 < float((changed > 0).float().mean()) < 0.5
    assert torch.equal(picture[changed == 0], photo[changed == 0])
    assert float((picture - photo).abs().amax()) > 0.02
    assert report.splitlines()[0] == "image 0: 1 of 1 faces restored"
    assert "face 0: " in report
    assert torch.equal(ui["quantface_before"][0][0], photo[0])
    assert torch.equal(ui["quantface_after"][0], picture[0])


def test_a_picture_without_faces_comes_back(restore: Any) -> None:
    gray = torch.full((2, 96, 128, 3), 0.3)
    picture, crops, changed, report, ui = restore(gray)
    assert torch.equal(picture, gray)
    assert type(crops).__name__ == "ExecutionBlocker"  # no black picture that Save Image would save
    assert crops.message is None
    assert not changed.any()
    assert report.splitlines()[2] == "image 1: 0 of 0 faces restored"
    assert ui["quantface_notes"] == [["no face was found: lower min_confidence, or mark faces with face_mask"]]


def test_a_sharp_face_is_left_as_it_was(restore: Any, load: Any, photo: torch.Tensor) -> None:
    model = load()
    picture, _, _, report, _ = restore(photo, model, blend="auto")
    assert "left as it was: no gain expected" in report
    assert (picture - photo).abs().mean() < 1e-3
    assert "no gain expected" not in restore(photo, model, blend="strength")[3]


def test_no_gain_for_any_face_is_told_with_what_to_do(restore: Any, load: Any, photo: torch.Tensor) -> None:
    """As the slider's two halves are equal then."""
    model = load()
    told = "no face was changed, as no gain is expected: set blend to strength to restore anyway"
    gray = torch.full_like(photo, 0.3)
    assert restore(torch.cat([photo, gray]), model, blend="auto")[-1]["quantface_notes"] == [[told]]
    small = torch.nn.functional.interpolate(photo.movedim(-1, 1), scale_factor=0.25, mode="area").movedim(1, -1)
    assert restore(small, model, blend="auto")[-1]["quantface_notes"] == [
        [f"{told}, or upscale to 2 or 4 to see more of small faces"]
    ]
    assert restore(photo, model)[-1]["quantface_notes"] == [[]]
    dim = torch.nn.functional.interpolate(photo.movedim(-1, 1), scale_factor=0.12, mode="area")
    dim = torch.nn.functional.interpolate(dim, size=(512, 512), mode="bicubic").movedim(1, -1).clamp(0, 1)
    assert restore(torch.cat([photo, dim]), model, blend="auto")[-1]["quantface_notes"] == [[]]


def test_values_without_effect_are_told(restore: Any) -> None:
    gray = torch.full((1, 96, 128, 3), 0.3)
    told = restore(gray, blend="auto", strength=0.3, positions="5")[-1]["quantface_notes"]
    assert told[0][:2] == ["positions 5 has no effect: faces is all", "strength 0.3 has no effect: blend is auto"]
    for used in ({"strength": 0.3}, {"blend": "auto"}, {"positions": " 0,"}, {"faces": "positions", "positions": "5"}):
        assert "no effect" not in restore(gray, **used)[3]


def test_a_seed_draws_and_none_does_not(restore: Any, portrait: torch.Tensor) -> None:
    steady, first, again, other = (restore(portrait, seed=seed)[0] for seed in (-1, 3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, steady)


def test_smoothing_closes_a_gap_in_the_frames(restore: Any, photo: torch.Tensor) -> None:
    frames = torch.cat([photo, photo, photo])
    box = {"x": 175, "y": 60, "width": 100, "height": 120}
    boxes = [[box], [], [box]]
    assert not restore(frames, boxes=boxes)[2][1].any()
    picture, _, changed, *_ = restore(frames, boxes=boxes, smoothing=2.0)
    assert changed[1].any()
    torch.testing.assert_close(picture[1], picture[0])


def test_progress_goes_face_by_face(restore: Any, portrait: torch.Tensor, host: SimpleNamespace) -> None:
    both = torch.cat([portrait, portrait.flip(2)], dim=2)
    restore(both, batch_size=1)
    shares = [value / total for value, total in host.bars[-1]]
    assert shares == sorted(shares)
    assert len({share for share in shares if 0.1 < share < 1}) == 1  # between the two
    assert shares[-1] == 1


def test_not_enough_memory_is_the_host_s_to_tell(restore: Any, full: Any, photo: torch.Tensor) -> None:
    maps = list[weakref.ref[torch.Tensor]]()

    def encode(*_: Any) -> None:
        held = torch.zeros(1)
        maps.append(weakref.ref(held))
        raise torch.cuda.OutOfMemoryError("no room")

    full.restorer.posterior = encode
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        restore(photo)
    assert caught.value  # held, as the host holds it; not so what the model had computed
    assert [held() for held in maps] == [None] * len(maps)


def test_room_is_asked_for_the_faces_of_one_image(
    restore: Any, full: Any, portrait: torch.Tensor, host: SimpleNamespace
) -> None:
    one = full.restorer.working_memory
    both = torch.cat([portrait, portrait.flip(2)], dim=2)
    for image, batch_size, faces in ((portrait.repeat(3, 1, 1, 1), 8, 1), (both, 8, 2), (both, 1, 1)):
        restore(image, batch_size=batch_size)
        assert host.asked[-1] == faces * one


def test_cancel_stops_within_a_layer(restore: Any, full: Any, host: SimpleNamespace, photo: torch.Tensor) -> None:
    restore(photo)
    assert host.checks > 100  # every layer asked
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in full.restorer.modules())
    assert hooks == 0
    host.cancelled = True
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        restore(photo)
    assert type(caught.value).__name__ == "Cancelled"
