from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantface_core.errors import ImageError
from quantface_core.io.photos import Pages, Photo, limits, read_photo, write_pages, write_photo
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import restore_file
from quantface_core.pipelines.jobs import Job
from quantface_core.pipelines.restore_file import FileRequest, read_file, restore_pages, side_by_side
from quantface_core.types import Repair


def _refused(pages: Pages, target: str, upscale: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Why a file of these pages is refused before the model runs."""
    monkeypatch.setattr(restore_file, "restore_picture", lambda *_: pytest.fail("the model ran"))
    source, restorer = folder / "a.tif", Any
    write_pages(pages, source)
    request = FileRequest(Job(source, folder / target, None), restorer, lambda _: (), RestoreOptions(upscale=upscale))
    with pytest.raises(ImageError) as caught:
        restore_pages(request, read_file(request))
    return str(caught.value).removeprefix(f"{source}: ")


def test_pages_too_large_together_are_refused_before_the_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them, and the file that is read, are small enough."""
    monkeypatch.setattr(limits, "MAX_PIXELS", 1_000_000)
    pages = Pages((Photo(np.zeros((500, 500, 3), np.uint8)),) * 5)
    refused = _refused(pages, "b.tif", 2, tmp_path, monkeypatch)
    assert refused == "enlarged, its 5 pictures have 5 megapixels, more than 4; split it first"


@pytest.mark.parametrize(
    ("target", "width", "upscale", "longest"),
    [("b.webp", 9000, 2, 16_383), ("b.jpg", 33_000, 2, 65_500), ("b.webp", 17_000, 1, 16_383)],
)
def test_a_side_too_long_for_the_format_is_refused_before_the_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, width: int, upscale: int, longest: int
) -> None:
    refused = _refused(Pages((Photo(np.zeros((4, width, 3), np.uint8)),)), target, upscale, tmp_path, monkeypatch)
    assert refused.startswith(f"{'enlarged, ' if upscale > 1 else ''}{width * upscale}x{4 * upscale} is too long: ")
    assert refused.endswith(f"holds at most {longest} pixels a side: name a .png file")


def test_before_and_after_share_one_size() -> None:
    before, after = np.zeros((10, 20, 3), np.uint8), np.full((40, 80, 3), 200, np.uint8)
    shown = side_by_side(before, after)
    assert shown.shape == (40, 80 + 2 + 80, 3)
    assert shown[:, :80].max() == 0
    assert shown[:, 80:82].min() == 255
    assert (shown[:, 82:] == 200).all()


def test_a_huge_comparison_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_file, "_COMPARE_PIXELS", 2 * 50 * 50)
    picture = np.full((100, 100, 3), 9, np.uint16)
    assert side_by_side(picture, picture).shape == (50, 50 + 2 + 50, 3)


def test_scratches_are_repaired_before_faces_are_looked_for(tmp_path: Path, tiny: Any) -> None:
    seen: list[np.ndarray] = []

    def repair(pixels: np.ndarray) -> Repair:
        return Repair(np.full_like(pixels, 90), np.full(pixels.shape[:2], 0.5, np.float32))

    def detector(pixels: np.ndarray) -> tuple[()]:
        seen.append(pixels)
        return ()

    write_photo(Photo(np.zeros((20, 30, 3), np.uint8)), tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    report = restore_file.restore_file(FileRequest(job, tiny, detector, RestoreOptions(), repair=repair))
    assert [int(pixels.min()) for pixels in seen] == [90]
    assert (read_photo(tmp_path / "b.png").pixels == 90).all()
    assert (read_photo(tmp_path / "c.png").pixels[:, :30] == 0).all()
    assert report.to_dict()["repaired"] == 0.5
    assert report.warnings == (f"{job.source}: no face found; only scratches were repaired",)


def test_a_photo_without_scratches_is_copied(tmp_path: Path, tiny: Any) -> None:
    def repair(pixels: np.ndarray) -> Repair:
        return Repair(pixels, np.zeros(pixels.shape[:2], np.float32))

    write_photo(Photo(np.zeros((20, 30, 3), np.uint8)), tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png", None)
    report = restore_file.restore_file(FileRequest(job, tiny, lambda _: (), RestoreOptions(), repair=repair))
    assert job.target.read_bytes() == job.source.read_bytes()
    assert report.to_dict()["repaired"] == 0
    assert report.warnings == (f"{job.source}: no face found; nothing was restored",)
