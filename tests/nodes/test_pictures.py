"""Pictures and masks as ComfyUI has them: shapes, transparency, and huge ones."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def test_masks_and_pictures_of_other_shapes_are_understood(restore: Any, photo: torch.Tensor) -> None:
    small = photo[:, :256, 128:384]
    size = small.shape[1:3]
    plain, _, changed, _, _ = restore(small, mask=torch.ones(1, *size))
    assert changed.any()
    for mask in (torch.ones(size), torch.ones(1, 1, *size), torch.ones(1, *size).bfloat16()):
        assert torch.equal(restore(small, mask=mask, face_mask=None)[0], plain)
    one_channel, none = small.mean(-1, keepdim=True).bfloat16(), torch.zeros(0, 64, 64, 3)
    assert restore(one_channel)[0].shape == small.shape
    for bad in ({"image": none}, {"image": small, "mask": none[..., 0]}, {"image": small[0]}):
        with pytest.raises(Exception, match="not empty"):
            restore(**bad)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 4, 4, 3), (1, 1, 1, 4, 4)])
def test_what_is_no_mask_is_refused(pack: Any, shape: tuple[int, ...]) -> None:
    as_masks = importlib.import_module(f"{pack.__name__}.nodes.pictures").as_masks
    with pytest.raises(Exception, match="masks must be"):
        as_masks(torch.ones(shape))
    assert as_masks(torch.ones(2, 1, 4, 5)).shape == (2, 4, 5)


def test_transparency_is_kept(restore: Any, photo: torch.Tensor) -> None:
    alpha = torch.linspace(0, 1, 512).expand(1, 512, 512)[..., None]
    picture, *_, ui = restore(torch.cat([photo, alpha], dim=-1))
    assert picture.shape == (1, 512, 512, 4)
    assert torch.equal(picture[..., 3:], alpha)
    assert not torch.equal(picture[..., :3], photo)
    assert ui["quantface_after"][0].shape[-1] == 3
    larger = restore(torch.cat([photo, alpha], dim=-1), upscale="2")[0]
    assert larger.shape == (1, 1024, 1024, 4)
    assert float((larger[0, 0, ::2, 3] - alpha[0, 0, :, 0]).abs().amax()) < 0.002
    beneath = torch.cat([photo, alpha.flip(2)], dim=-1)
    assert torch.equal(restore(photo, background=beneath)[0][..., 3:], alpha.flip(2))
    with pytest.raises(Exception, match="1, 3 or 4"):
        restore(torch.cat([photo, photo], dim=-1))


def test_what_an_hdr_image_has_beyond_white_and_black_stays(restore: Any, photo: torch.Tensor) -> None:
    """A face's lights too: cut off at white, they would be a dull patch."""
    hdr = photo * 1.6 - 0.2
    inside, beyond = (f(hdr) for f in (lambda x: x.clamp(0, 1), lambda x: x - x.clamp(0, 1)))
    (plain, _, changed, *_), picture = restore(inside), restore(hdr)[0]
    face = changed > 0
    assert beyond[face].abs().max() > 0.2
    assert torch.allclose(picture[face], (plain + beyond)[face], atol=1e-6)
    assert torch.equal(picture[~face], hdr[~face])


def test_the_slider_shows_a_huge_picture_at_a_screen_s_size(restore: Any) -> None:
    gray = torch.full((1, 3000, 64, 3), 0.3)
    picture, *_, ui = restore(gray)
    assert picture.shape == gray.shape
    for shown in (ui["quantface_before"][0], ui["quantface_after"]):
        assert shown[0].shape == (2048, 44, 3)


def test_a_video_is_shown_in_few_pixels_and_can_be_cancelled_meanwhile(pack: Any, host: SimpleNamespace) -> None:
    previews = importlib.import_module(f"{pack.__name__}.nodes.previews")
    frames = torch.zeros(1, 1080, 1920, 1).expand(48, -1, -1, 3)
    shown = previews.before_after(frames, frames, object)
    assert [len(files) for files in (*shown["quantface_before"], shown["quantface_after"])] == [24, 24]
    assert sum(image.shape[0] * image.shape[1] for image in shown["quantface_after"]) < 4 * 2048**2
    assert max(shown["quantface_after"][0].shape) > 800
    assert host.checks == 48
    host.cancelled = True
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        previews.before_after(frames, frames, object)
    assert type(caught.value).__name__ == "Cancelled"


def test_a_huge_picture_is_worked_on_in_strips(
    restore: Any, host: SimpleNamespace, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done to all of its pixels looks at the cancel button after so many."""
    whole = restore(photo)
    pictures = importlib.import_module("custom_nodes_quantface.nodes.pictures")
    checks, host.checks, strips = host.checks, 0, 64
    monkeypatch.setattr(pictures, "_STRIP", photo[0, ..., 0].numel() // strips)
    picture, _, changed, *_ = restore(photo)
    assert torch.equal(picture, whole[0])
    assert torch.equal(changed, whole[2])
    assert host.checks - checks >= 3 * (strips - 1)  # read for the search, read for the restorer, put together
