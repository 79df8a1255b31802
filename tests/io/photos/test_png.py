"""Text chunks, which Pillow reads only in part."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from quantface_core.io.photos import png, read_photo, write_photo

WORKFLOW = '{"nodes": [{"id": 1, "text": "ein Porträt"}]}'


@pytest.mark.parametrize("depth", [8, 16])
def test_text_of_png_comes_back_byte_for_byte(tmp_path: Path, picture: np.ndarray, depth: int) -> None:
    """Prompt, workflow and parameters: artists drag a picture into their host to get them back."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a portrait, Steps: 20")
    info.add_text("workflow", WORKFLOW, zip=True)
    info.add_itxt("prompt", WORKFLOW, "de", "Aufgabe")
    Image.fromarray(picture).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 300))
    if depth == 16:
        added = png.kept_chunks(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes(png.with_chunks(png.encode(picture.astype(np.uint16) * 257), added))
    photo = read_photo(tmp_path / "a.png")
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert sorted(png.kept_chunks(tmp_path / "b.png")) == sorted(png.kept_chunks(tmp_path / "a.png"))
    if depth == 8:
        with Image.open(tmp_path / "b.png") as image:
            image.load()
            assert image.text == {"parameters": "a portrait, Steps: 20", "workflow": WORKFLOW, "prompt": WORKFLOW}
    for name in ("b.jpg", "b.webp", "b.tif"):
        assert any("parameters, workflow, prompt" in n for n in write_photo(photo, tmp_path / name)), name


def test_text_behind_the_picture_is_found(tmp_path: Path, picture: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    whole, end = file.getvalue()[:-12], file.getvalue()[-12:]
    (tmp_path / "a.png").write_bytes(whole + png.packed((b"tEXt", b"workflow\0{}")) + end)
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.text["workflow"] == "{}"
