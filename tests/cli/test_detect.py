"""`quantface detect`: faces are listed and drawn by the numbers that `restore --faces` takes."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.faces.select import sort_faces
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions


def test_faces_are_listed_as_restore_counts_them(
    photos: Path, detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, photo = read_photo(photos / "solvay_1927_group.jpg").pixels[150:300, :130], tmp_path / "group.png"
    cv2.imwrite(str(photo), pixels[..., ::-1])
    assert main(["detect", str(photo), "--output", str(tmp_path / "faces"), "--order", "size"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photo}: 4 faces, see {tmp_path / 'faces' / 'group.png'}"
    faces = sort_faces(detector(pixels), RestoreOptions(order="size"))
    places = [re.findall(r"\d+", line)[:4] for line in lines[1:]]
    expected = [[n, round(face.size), round(face.box[0]), round(face.box[1])] for n, face in enumerate(faces)]
    assert [[int(n) for n in place] for place in places] == expected
    drawn = cv2.imread(str(tmp_path / "faces" / "group.png"))[..., ::-1]
    enlarged = cv2.resize(pixels, drawn.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
    changed = np.abs(drawn.astype(int) - enlarged).max(2) > 60
    assert 0.01 < changed.mean() < 0.2


def test_faces_that_restore_passes_over_are_not_counted(
    photos: Path, detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a photo of 16 bits is drawn as one of 8."""
    pixels = read_photo(photos / "solvay_1927_group.jpg").pixels[150:300, :130]
    found = sort_faces(detector(pixels), RestoreOptions())
    for name, values in (("8.png", pixels), ("16.png", pixels.astype(np.uint16) * 257)):
        cv2.imwrite(str(tmp_path / name), values[..., ::-1])
    command = ["detect", *(str(tmp_path / f"{n}.png") for n in (8, 16)), "-o", str(tmp_path / "o")]
    size, score = (sorted(getattr(face, of) for face in found) for of in ("size", "score"))
    for options in (["--min-size", str(size[1])], ["--min-confidence", str(score[1])]):
        assert main([*command, *options]) == 0
        assert capsys.readouterr().out.count(f": {len(found) - 1} faces") == 2
    drawn = [cv2.imread(str(tmp_path / "o" / f"{n}.png"), cv2.IMREAD_UNCHANGED) for n in (8, 16)]
    assert drawn[0].dtype == np.uint8
    assert np.array_equal(*drawn)


def test_a_broken_photo_is_told_and_the_rest_is_detected(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((64, 64, 3), 127, np.uint8))
    command = ["detect", str(tmp_path), str(photos / "nasa_astronaut.png"), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {tmp_path / 'broken.jpg'}: ")
    assert f"{tmp_path / 'empty.png'}: no face found, see {tmp_path / 'out' / 'empty.png'}" in shown.out
    assert shown.out.count("confidence") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["empty.png", "nasa_astronaut.png"]


def test_of_pages_the_first_is_searched_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Image.new("RGB", (64, 64))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    assert main(["detect", str(tmp_path / "pages.tif"), "--output", str(tmp_path / "out")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'pages.tif'}: no face found, see ")
    assert second == "  only the first of 3 pictures is read"


def test_a_drawing_that_cannot_be_written_is_told_by_its_name(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out" / "nasa_astronaut.png"
    place.mkdir(parents=True)
    assert main(["detect", str(photos / "nasa_astronaut.png"), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {place}: cannot write")


def test_it_never_writes_onto_a_photo(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes((photos / "nasa_astronaut.png").read_bytes())
    assert main(["detect", str(photo), "--output", str(photo)]) == 2
    assert "would overwrite a source photo" in capsys.readouterr().err
    assert photo.read_bytes() == (photos / "nasa_astronaut.png").read_bytes()


def test_drawings_are_png_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((64, 64, 3), 127, np.uint8))
    for output, told in (("x.jpg", "is not .png: end its name so"), ("notes.txt", "name a folder, or use .png\n")):
        assert main(["detect", str(tmp_path / "empty.png"), "--output", str(tmp_path / output)]) == 2
        assert told in capsys.readouterr().err


def test_options_and_any_photo_count(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16 bits, a name that would write to the terminal, a subfolder; a minimum size that the face does not reach."""
    pixels = read_photo(photos / "nasa_astronaut.png").pixels[:280, 90:350]
    (tmp_path / "in" / "sub").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "in" / "sub" / "deep\x1b[31m.png"), pixels[..., ::-1].astype(np.uint16) * 257)
    command = ["detect", str(tmp_path / "in"), "--recursive", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "deep\\x1b[31m.png: 1 face, see " in lines[0]
    drawn = cv2.imread(str(tmp_path / "out" / "sub" / "deep\x1b[31m.png"))[..., ::-1]
    enlarged = cv2.resize(pixels, drawn.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
    assert np.median(np.abs(drawn.astype(int) - enlarged)) <= 1
    assert main([*command, "--min-size", "400"]) == 0
    assert "no face found" in capsys.readouterr().out


def test_an_error_of_a_decoder_is_that_photos(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> object:
        if path.name == "a.png":
            raise RuntimeError("a plugin's\nown")
        return read_photo(path)

    monkeypatch.setattr("quantface_core.pipelines.detect.read_photo", read)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((64, 64, 3), 127, np.uint8))
    assert main(["detect", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert f"error: {tmp_path / 'a.png'}: RuntimeError: a plugin's" in shown.err
    assert f"{tmp_path / 'b.png'}: no face found" in shown.out
