"""Every chart: what it shows follows its values, and it holds at the sizes that models come in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.charts import draw_bits, draw_faces, draw_layers, draw_losses, draw_numbered, save_chart
from quantface_core.charts.canvas import BLUE, PALE_BLUE, SOFT, VERMILION
from quantface_core.charts.losses import _running_median
from quantface_core.errors import ImageError, UsageError, WriteError
from quantface_core.types import BitPlan, Face, LayerFormat, LayerReport, LayerSensitivity, Sensitivity

_WIDTHS = range(3, 9)


def _sensitivity(count: int, error: float = 1e-4, fixed: int | None = None) -> Sensitivity:
    parts = ("embedder.encoder.down", "unet.down_blocks", "vae.encoder.down_blocks", "vae.decoder.up_blocks")
    decay = {bits: 0.5 * 4.0 ** (4 - bits) for bits in _WIDTHS}
    layer = LayerSensitivity(10**6, 10**4, 100, fixed, decay, decay, error, error)
    names = [f"{parts[i * len(parts) // count]}.{i}" for i in range(count)]
    return Sensitivity("some-model", "ms_ssim", 0, dict.fromkeys(names, layer))


def _plan(sensitivity: Sensitivity, weight: int, activation: int) -> BitPlan:
    return BitPlan(sensitivity.model, dict.fromkeys(sensitivity.layers, (weight, activation)))


def _rows(picture: np.ndarray, color: str) -> np.ndarray:
    """The rows of a picture in which a colour appears, left of the right axis."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.flatnonzero((picture[:, 80:1300] == wanted).all(2).any(1))


@pytest.mark.parametrize("count", [4, 20, 450])
def test_bits_are_drawn_from_few_layers_to_many(count: int) -> None:
    sensitivity = _sensitivity(count)
    picture = draw_bits(_plan(sensitivity, 4, 6), sensitivity)
    assert picture.shape == (700, 1400, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw_bits(_plan(sensitivity, 4, 6), sensitivity))


def test_more_bits_stand_higher_and_each_kind_in_its_own_panel() -> None:
    sensitivity = _sensitivity(20)
    low, high = (draw_bits(_plan(sensitivity, bits, 4), sensitivity) for bits in (3, 6))
    assert _rows(high, BLUE).min() < _rows(low, BLUE).min() - 50
    np.testing.assert_array_equal(_rows(high, VERMILION), _rows(low, VERMILION))
    assert _rows(low, BLUE).max() < 380 < _rows(low, VERMILION).min()


def test_fixed_layers_are_gray() -> None:
    sensitivity = _sensitivity(20, fixed=8)
    picture = draw_bits(_plan(sensitivity, 8, 8), sensitivity)
    assert not len(_rows(picture[90:], BLUE))
    assert len(_rows(picture[90:], SOFT))


def test_a_layer_without_effect_has_no_bar() -> None:
    sensitivity = _sensitivity(8, error=0.0)
    assert not len(_rows(draw_bits(_plan(sensitivity, 4, 4), sensitivity), PALE_BLUE))


def test_a_plan_of_another_model_is_refused_by_name() -> None:
    plan = BitPlan("other", {"unet.nowhere": (4, 4)})
    with pytest.raises(UsageError, match=r"unet\.nowhere"):
        draw_bits(plan, _sensitivity(4))


def test_losses_fill_the_picture_as_steps_are_done() -> None:
    curve = [1e-2 * math.exp(-i / 50) for i in range(200)]

    def reach(done: int) -> int:
        picture = draw_losses(curve[:done], [], 200)[90:450, 91:909]
        blue = (picture == [int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]).all(2)
        return int(np.flatnonzero(blue.any(0)).max())

    assert reach(50) == pytest.approx(818 / 4, abs=8)
    assert reach(200) == pytest.approx(818, abs=8)


@pytest.mark.parametrize(
    ("losses", "scores"),
    [
        ([], []),
        ([0.1], []),
        ([0.1, 0.1], [(2, 30.0)]),
        ([0.0, 1e-9, 1.0], [(1, 20.0), (3, 35.0)]),
        ([1, math.nan, 2], []),
    ],
)
def test_a_run_is_drawn_from_its_first_step(losses: list[float], scores: list[tuple[int, float]]) -> None:
    assert draw_losses(losses, scores, 3).shape == (520, 1000, 3)
    assert draw_losses(losses, [*scores, (3, math.nan)], 3).shape == (520, 1000, 3)


@pytest.mark.parametrize("done", [0, 1, 30, 5000])
def test_a_long_run_s_median_is_taken_at_no_more_places_than_are_drawn(done: int) -> None:
    losses = np.random.default_rng(0).random(done).tolist()
    medians = _running_median(losses, 20)
    assert len(medians) == (done if done < 800 else 715)  # every 7th of 5000, on 820 pixels
    assert [step for step, _ in medians[-1:]] == [done][: len(losses)]
    assert all(loss == np.median(losses[max(0, step - 20) : step]) for step, loss in medians)


def test_faces_are_not_resampled() -> None:
    pictures = torch.randint(0, 256, (2, 3, 3, 160, 160), generator=torch.Generator().manual_seed(0)).float()
    drawn = draw_faces(pictures / 127.5 - 1)
    wanted = pictures[1, 2].permute(1, 2, 0).byte().numpy()
    at = [
        (y, x)
        for y in range(len(drawn) - 160)
        for x in range(drawn.shape[1] - 160)
        if (drawn[y, x] == wanted[0, 0]).all() and (drawn[y : y + 160, x : x + 160] == wanted).all()
    ]
    assert len(at) == 1


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (0, 3, 3, 8, 8), (1, 2, 3, 8, 8)])
def test_faces_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="faces are"):
        draw_faces(torch.zeros(shape))


def test_layers_stand_by_their_errors_and_say_how_much_they_gained() -> None:
    def reports(after: float) -> list[LayerReport]:
        names = [f"unet.down_blocks.{i}" for i in range(30)]
        return [LayerReport(n, (8, 8), LayerFormat(4, 4), None, 1.0, 1e-1, after) for n in names]

    slight, much = draw_layers(reports(5e-2)), draw_layers(reports(1e-5))
    assert _rows(much[110:], BLUE).max() > _rows(slight[110:], BLUE).max() - 5
    assert (slight[:40] != much[:40]).any()  # the title
    with pytest.raises(UsageError, match="no layer"):
        draw_layers([])


def test_charts_are_saved_atomically(tmp_path: Path) -> None:
    picture = np.full((4, 6, 3), 7, np.uint8)
    save_chart(picture, tmp_path / "new" / "chart.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "chart.png")), picture)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["chart.png"]
    with pytest.raises(ImageError, match=r"\.png"):
        save_chart(picture, tmp_path / "chart.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        save_chart(picture, tmp_path / "file" / "chart.png")


def _face(left: float, top: float, side: float) -> Face:
    return Face((left, top, side, side), ((0.0, 0.0),) * 5, 0.9)


@pytest.mark.parametrize(("width", "height", "drawn"), [(300, 200, (683, 1024)), (2000, 1500, (1500, 2000))])
def test_numbered_faces_are_framed_at_their_places(width: int, height: int, drawn: tuple[int, int]) -> None:
    photo = np.full((height, width, 3), 90, np.uint8)
    faces = [_face(0.1 * width, 0.3 * height, 0.1 * width), _face(0.7 * width, 0.3 * height, 0.1 * width)]
    picture = draw_numbered(photo, faces, {1})
    assert picture.shape == (*drawn, 3)
    for color, left, right in ((SOFT, 0.1, 0.2), (BLUE, 0.7, 0.8)):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        places = np.flatnonzero((picture == wanted).all(2).any(0)) / drawn[1]
        assert (places.min(), places.max()) == pytest.approx((left, right), abs=0.006)


def test_no_face_is_numbered_outside_the_photo() -> None:
    photo = np.full((400, 2000, 3), 90, np.uint8)
    for place in ((-50, -50), (1960, 380), (0, 0), (1900, 0)):
        picture = draw_numbered(photo, [_face(*place, 90)], {0})
        ink = (picture == [0, 0x72, 0xB2]).all(2)
        assert ink.sum() > 1000  # the number's ground
    np.testing.assert_array_equal(draw_numbered(photo, [], ()), photo)
