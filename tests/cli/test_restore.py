"""The command as a user runs it, in this process; one run in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.cli.main import main
from quantface_core.cli.restore import _FORMATS
from quantface_core.io.checksum import sha256
from quantface_core.io.models import restorer_path
from quantface_core.io.photos import FORMATS, read_photo
from quantface_core.kernels.backend import NAMES
from quantface_core.runtime.device import choose_device
from tests.cli.listing import listing


@pytest.mark.usefixtures("models_dir")
class TestPhotos:
    def test_three_photos(self, photos: Path, tmp_path: Path) -> None:
        """One is a part of the group, in its gray: all of it has 29 faces."""
        given, out = tmp_path / "in", tmp_path / "out"
        given.mkdir()
        for name in ("nasa_astronaut.png", "usnavy_grace_hopper.jpg"):
            (given / name).write_bytes((photos / name).read_bytes())
        with Image.open(photos / "solvay_1927_group.jpg") as group:
            group.crop((450, 200, 660, 420)).save(given / "group.jpg")
        command = [
            "restore",
            str(given / "*.*"),
            "--output",
            str(out),
            "--compare",
            "--json",
            str(out / "report.json"),
        ]
        assert main(command) == 0
        report = json.loads((out / "report.json").read_text())
        counts = {Path(p["source"]).name: len(p["restored"]) for p in report["photos"]}
        assert counts == {"nasa_astronaut.png": 1, "group.jpg": 5, "usnavy_grace_hopper.jpg": 1}
        assert report["model"] == "quantface-mini-w4a4"
        assert report["model_sha256"] == sha256(restorer_path("quantface-mini-w4a4"))
        assert (report["device"], report["low_memory"]) == (choose_device("auto").type, False)
        assert report["backend"] in NAMES
        assert report["precision"] in ("float32", "bfloat16")
        before, after = (read_photo(f / "nasa_astronaut.png").pixels for f in (photos, out))
        left, top, width, height = (int(v) for v in report["photos"][0]["faces"][0]["box"])
        outside = np.ones(before.shape[:2], bool)
        outside[max(0, top - height) : top + 2 * height, left - width : left + 2 * width] = False
        assert np.array_equal(before[outside], after[outside])
        with Image.open(out / "nasa_astronaut_compare.png") as compare:
            assert compare.width > 2 * 512
        with Image.open(out / "group.jpg") as gray:
            assert gray.mode == "L"

    def test_twice_gives_the_same_bytes(self, photos: Path, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            assert (
                main(["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path / folder), "--seed", "4"]) == 0
            )
        assert (tmp_path / "one/nasa_astronaut.png").read_bytes() == (tmp_path / "two/nasa_astronaut.png").read_bytes()

    def test_results_have_the_format_asked_for(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert tuple(FORMATS) == _FORMATS  # which the command knows without loading them
        source, out = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        for name in ("a.bmp", "b.png", "c.jpeg"):
            Image.new("RGB", (16, 12), (90, 120, 60)).save(source / name)
        assert main(["restore", str(source), "-o", str(out), "--format", "jpg"]) == 0
        assert listing(out) == ["a.jpg", "b.jpg", "c.jpeg"]
        assert {Image.open(path).format for path in out.iterdir()} == {"JPEG"}
        assert (out / "c.jpeg").read_bytes() == (source / "c.jpeg").read_bytes()

    def test_no_face_returns_the_very_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Image.fromarray(np.full((80, 100, 3), 77, np.uint8)).save(tmp_path / "wall.jpg")
        assert main(["restore", str(tmp_path / "wall.jpg"), "-o", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out/wall.jpg").read_bytes() == (tmp_path / "wall.jpg").read_bytes()
        assert "wall.jpg: no face found; nothing was restored" in capsys.readouterr().err

    def test_a_doubtful_find_is_reported_and_left_alone(self, photos: Path, tmp_path: Path) -> None:
        with Image.open(photos / "nasa_astronaut.png") as image:
            image.convert("RGB").rotate(180).save(tmp_path / "a.png")
        command = ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]
        assert main(command) == 0
        report = json.loads((tmp_path / "r.json").read_text())["photos"][0]
        assert len(report["restored"]) == len(report["faces"]) == 1
        before, after = read_photo(tmp_path / "a.png").pixels, read_photo(tmp_path / "out/a.png").pixels
        assert report["doubtful"]
        for find in report["doubtful"]:
            left, top, width, height = (max(0, round(v)) for v in find["box"])
            badge = np.s_[top : top + height // 2, left : left + width]
            assert np.array_equal(before[badge], after[badge])

    def test_no_chosen_face_says_so(self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = ["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path), "--faces", "7"]
        assert main(command) == 0
        assert "none of the 1 faces chosen" in capsys.readouterr().err

    def test_a_broken_photo_does_not_stop_the_rest(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.png").write_text("text")
        command = ["restore", str(tmp_path / "a.png"), str(tmp_path / "gone.jpg"), str(photos / "nasa_astronaut.png")]
        assert main([*command, "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]) == 1
        error = capsys.readouterr().err
        assert "a.png: damaged, or not a picture" in error
        assert "gone.jpg: no such file" in error
        assert "2 of 3 photos failed" in error
        assert listing(tmp_path / "out") == ["nasa_astronaut.png"]
        assert ["error" in p for p in json.loads((tmp_path / "r.json").read_text())["photos"]] == [True, True, False]

    def test_alpha_and_profile_survive(self, photos: Path, tmp_path: Path) -> None:
        with Image.open(photos / "nasa_astronaut.png") as image:
            icc = image.info["icc_profile"]
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(tmp_path / "a.png", icc_profile=icc)
        assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--upscale", "2"]) == 0
        before, after = read_photo(tmp_path / "a.png"), read_photo(tmp_path / "out/a.png")
        assert after.icc == icc
        assert after.pixels.shape == (1024, 1024, 3)
        assert abs(float(after.alpha.mean()) - float(before.alpha.mean())) < 0.5


def test_aligned_needs_no_detector(
    test_faces: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["restore", str(test_faces[0]), "-o", str(tmp_path / "a.png"), "--aligned"]) == 0
    assert listing(tmp_path) == ["a.png"]


def test_the_demo_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    assert listing(tmp_path) == ["compare.png", "demo", "restored.png"]


def test_a_face_left_as_it_was_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, report = photos / "usnavy_grace_hopper.jpg", tmp_path / "report.json"
    assert main(["restore", str(photo), "--output", str(tmp_path), "--json", str(report)]) == 0
    told = capsys.readouterr().err
    assert "face 0 left as it was: no gain expected" in told
    assert f"wrote 1 of 1 photos to {tmp_path}, 0 with restored faces\n" in told
    assert "faces left as they were: 1; --strength 1 restores them too" in told
    assert (tmp_path / photo.name).read_bytes() == photo.read_bytes()
    entry = json.loads(report.read_text())["photos"][0]
    assert entry["taken"] == [0.0]
    assert entry["done"] == ["left as it was: no gain expected"]
    assert main(["restore", str(photo), "--output", str(tmp_path), "--json", str(report), "--strength", "1"]) == 0
    assert json.loads(report.read_text())["photos"][0]["taken"] == [1.0]
    told = capsys.readouterr().err
    assert "left as" not in told
    assert ", 1 with restored faces\n" in told
    assert (tmp_path / photo.name).read_bytes() != photo.read_bytes()
    assert main(["restore", str(photo), "--output", str(tmp_path), "--strength", "0"]) == 0
    assert "--strength 1" not in capsys.readouterr().err
    assert (tmp_path / photo.name).read_bytes() == photo.read_bytes()
