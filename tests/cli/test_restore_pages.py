"""Files of several pages or frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from quantface_core.cli.main import main
from quantface_core.io.photos import Metadata, Pages, Photo, read_pages, read_photo, write_pages


@pytest.mark.usefixtures("models_dir")
class TestPages:
    def test_every_page_of_a_tiff_is_restored(self, photos: Path, tmp_path: Path) -> None:
        face = read_photo(photos / "nasa_astronaut.png")
        small = cv2.resize(face.pixels, (256, 256), interpolation=cv2.INTER_AREA)
        scans = Photo(face.pixels, metadata=Metadata(dpi=(300.0, 300.0))), Photo(small.astype(np.uint16) * 257)
        write_pages(Pages(scans), tmp_path / "a.tif")
        command = ["restore", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]
        command += ["--strength", "1"]  # sharp faces are left alone otherwise
        assert main(command) == 0
        before, after = read_pages(tmp_path / "a.tif").photos, read_pages(tmp_path / "out/a.tif").photos
        assert [p.pixels.dtype for p in after] == [np.uint8, np.uint16]
        assert all((b.pixels != a.pixels).any() for b, a in zip(before, after, strict=True))
        assert after[0].metadata.dpi == (300.0, 300.0)
        report = json.loads((tmp_path / "r.json").read_text())["photos"][0]
        assert [len(page["restored"]) for page in report["pages"]] == [1, 1]

    @pytest.mark.parametrize(("source", "result"), [("a.gif", "a.png"), ("a.webp", "a.webp"), ("a.png", "a.png")])
    def test_every_frame_of_an_animation_is_restored(
        self, photos: Path, tmp_path: Path, source: str, result: str
    ) -> None:
        with Image.open(photos / "nasa_astronaut.png") as image:
            face = image.convert("RGB").resize((256, 256))
        frames = [face, ImageEnhance.Brightness(face).enhance(0.8), ImageEnhance.Brightness(face).enhance(0.6)]
        settings = {"lossless": True} if source == "a.webp" else {}
        frames[0].save(
            tmp_path / source, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=2, **settings
        )
        assert main(["restore", str(tmp_path / source), "-o", str(tmp_path / "out"), "--strength", "1"]) == 0
        before, after = read_pages(tmp_path / source), read_pages(tmp_path / "out" / result)
        assert after.durations == (100.0, 200.0, 300.0)
        assert after.loops == before.loops == (3 if source == "a.gif" and before.loops == 3 else 2)
        for b, a in zip(before.photos, after.photos, strict=True):
            assert (b.pixels != a.pixels).any()
            assert np.abs(b.pixels.astype(int) - a.pixels).mean() < 8

    def test_what_cannot_hold_them_says_so(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Image.open(photos / "nasa_astronaut.png") as image:
            face = image.convert("RGB").resize((256, 256))
        face.save(tmp_path / "a.gif", save_all=True, append_images=[face.rotate(5)], duration=50)
        assert main(["restore", str(tmp_path / "a.gif"), "-o", str(tmp_path / "b.jpg")]) == 0
        assert "a.gif: only the first of 2 frames is written" in capsys.readouterr().err
