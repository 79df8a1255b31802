"""Which directories of a TIFF are pages, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantface_core.errors import ImageError
from quantface_core.io.photos import read_pages, read_photo

tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize(("kinds", "pages"), [((1,), 1), ((0, 1), 1), ((1, 4), 1), ((4, 5, 0), 1), ((1, 1), 2)])
def test_smaller_copies_are_pages_only_where_there_is_no_other(
    tmp_path: Path, colors: np.ndarray, kinds: tuple[int, ...], pages: int
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for kind in kinds:
            mask = kind & 4
            shown = np.zeros(colors.shape[:2], bool) if mask else colors
            file.write(shown, photometric="minisblack" if mask else "rgb", subfiletype=kind)
    found = read_pages(tmp_path / "a.tif").photos
    assert len(found) == pages
    assert np.array_equal(found[0].pixels, colors)


def test_other_depths_and_raw_files_are_refused(tmp_path: Path, colors: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags[258].valueoffset
    data[place : place + 6] = b"\x0c\0" * 3
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="12/12/12 bits"):
        read_photo(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", colors, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])
    with pytest.raises(ImageError, match="raw file"):
        read_photo(tmp_path / "b.tif")
