"""TIFF that we write, read by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import Pages, Photo, write_pages, write_photo

tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize("pages", [1, 3])
def test_what_we_write_others_read(tmp_path: Path, colors: np.ndarray, pages: int) -> None:
    """tifffile has its own reader; libtiff is behind Pillow."""
    photos = tuple(Photo(colors + np.uint16(i)) for i in range(pages))
    write_pages(Pages(photos), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == pages
        for i, page in enumerate(file.pages):
            assert page.photometric == 2
            assert np.array_equal(page.asarray(), colors + np.uint16(i))
    write_photo(Photo((colors >> 8).astype(np.uint8), gray=False), tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert np.array_equal(np.asarray(image), colors >> 8)
