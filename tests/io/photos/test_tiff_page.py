"""Pages of a TIFF in colours and orientations of every kind, whoever decodes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import read_photo, write_photo

tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8, none", "8, lzw", "8, jpeg", "16, none", "16, planar", "16, gray", "palette"])
def test_the_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str) -> None:
    """A bright corner is where a viewer that follows the tag shows it, and the result needs no tag."""
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:16, :16] = (200, 100, 60)
    stored = _store(upright, orientation)
    path = tmp_path / "a.tif"
    if kind.startswith("16"):
        deep = stored.astype(np.uint16) * 257
        deep = deep[..., 0] if kind == "16, gray" else deep.transpose(2, 0, 1) if kind == "16, planar" else deep
        tifffile.imwrite(
            path,
            np.ascontiguousarray(deep),
            photometric="minisblack" if kind == "16, gray" else "rgb",
            planarconfig="separate" if kind == "16, planar" else None,
            extratags=[(274, 3, 1, orientation, True)],
        )
    else:
        image = Image.fromarray(stored)
        image = image.convert("P", palette=Image.Palette.ADAPTIVE) if kind == "palette" else image
        codec = {"8, lzw": "tiff_lzw", "8, jpeg": "jpeg"}.get(kind)
        image.save(path, compression=codec, tiffinfo={274: orientation})
    photo = read_photo(path)
    assert photo.pixels.shape == upright.shape
    bright = photo.pixels[..., 0] > np.iinfo(photo.pixels.dtype).max // 3
    assert (bright == (upright[..., 0] > 0)).mean() > 0.98
    for name in ("b.tif", "b.png", "b.jpg"):
        write_photo(photo, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.getexif().get(0x0112, 1) == 1
        assert read_photo(tmp_path / name).pixels.shape == upright.shape


def _store(upright: np.ndarray, orientation: int) -> np.ndarray:
    turned = upright.swapaxes(0, 1) if orientation >= 5 else upright
    # Rows that run from the bottom and columns that run from the right (TIFF 6.0, the tag's table).
    rows = orientation in (3, 4, 7, 8) if orientation < 5 else orientation in (6, 7)
    columns = orientation in (2, 3) if orientation < 5 else orientation in (7, 8)
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def test_jpeg_and_bilevel_inside_tiff(tmp_path: Path, colors: np.ndarray) -> None:
    eight = (colors >> 8).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    assert np.abs(read_photo(tmp_path / "a.tif").pixels.astype(int) - eight).mean() < 4
    bits = Image.fromarray(eight[..., 0] > 99)
    for codec in ("group4", "tiff_lzw", None):
        bits.save(tmp_path / "b.tif", compression=codec)
        assert np.array_equal(read_photo(tmp_path / "b.tif").pixels[..., 0] > 0, np.asarray(bits))


def test_16_bit_inks_are_rounded_and_told(tmp_path: Path) -> None:
    inks = np.random.default_rng(0).integers(0, 1 << 16, (20, 30, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    tifffile.imwrite(tmp_path / "b.tif", np.rint(inks / 257).astype(np.uint8), photometric="separated")
    deep, plain = read_photo(tmp_path / "a.tif"), read_photo(tmp_path / "b.tif")
    assert np.array_equal(deep.pixels, plain.pixels)
    assert deep.notes == (*plain.notes, "16 bits per channel become 8")
