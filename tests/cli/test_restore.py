"""The command as a user runs it, in this process; one run in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import BmpImagePlugin, Image, ImageEnhance

from quantface_core.cli.main import main
from quantface_core.errors import ImageError
from quantface_core.io.photos import Metadata, Pages, Photo, read_pages, read_photo, write_pages
from quantface_core.pipelines import restore_picture

ROOT = Path(__file__).resolve().parents[2]


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*")) if folder.exists() else []


@pytest.mark.usefixtures("models_dir")
class TestPhotos:
    def test_the_three_photos(self, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        command = [
            "restore",
            str(photos / "*.*"),
            "--output",
            str(out),
            "--compare",
            "--json",
            str(out / "report.json"),
        ]
        assert main(command) == 0
        report = json.loads((out / "report.json").read_text())
        counts = {Path(p["source"]).name: len(p["restored"]) for p in report["photos"]}
        assert counts == {"nasa_astronaut.png": 1, "solvay_1927_group.jpg": 29, "usnavy_grace_hopper.jpg": 1}
        assert report["model"] == "quantface-mini-w4a4"
        before, after = (read_photo(f / "nasa_astronaut.png").pixels for f in (photos, out))
        left, top, width, height = (int(v) for v in report["photos"][0]["faces"][0]["box"])
        outside = np.ones(before.shape[:2], bool)
        outside[max(0, top - height) : top + 2 * height, left - width : left + 2 * width] = False
        assert np.array_equal(before[outside], after[outside])
        with Image.open(out / "nasa_astronaut_compare.png") as compare:
            assert compare.width > 2 * 512
        with Image.open(out / "solvay_1927_group.jpg") as gray:
            assert gray.mode == "L"

    def test_twice_gives_the_same_bytes(self, photos: Path, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            assert (
                main(["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path / folder), "--seed", "4"]) == 0
            )
        assert (tmp_path / "one/nasa_astronaut.png").read_bytes() == (tmp_path / "two/nasa_astronaut.png").read_bytes()

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strength", "2"], "strength is auto, or between 0 and 1"),
        (["--batch-size", "-1"], "batch size is at least 1"),
        (["--min-size", "nan"], "smallest size of faces"),
        (["--min-confidence", "nan"], "least confidence of faces"),
        (["--strength", "nan"], "strength is auto, or between 0 and 1"),
        (["--json", "."], "--json . is a folder"),
        (["--json", "conftest.py/r.json"], "is a file, not a folder"),
        (["--device", "mps"], "not available on this machine; there is: "),
    ],
)
def test_misuse_is_status_2_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    models_dir: Path,
    arguments: list[str],
    message: str,
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(Path(__file__).parents[1])
    assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert listing(tmp_path) == ["a.png"]


@pytest.mark.parametrize("arguments", [["--faces", "eyes"], ["--upscale", "3"], ["--color", "sepia"], ["--unknown"]])
def test_what_the_parser_refuses_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["restore", "a.png", *arguments])
    assert stopped.value.code == 2


def test_an_unknown_model_is_status_1(tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", "quantface-mimi"]
    assert main(command) == 1
    assert "Did you mean quantface-mini?" in capsys.readouterr().err


def test_what_would_be_too_large_enlarged_is_refused_first(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr("quantface_core.io.photos.photo.MAX_PIXELS", 200 * 200)
    assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--upscale", "2"]) == 1
    assert "a.png: enlarged, 400x400 is more than" in capsys.readouterr().err
    assert listing(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "model.safetensors"])
def test_a_report_may_not_overwrite_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model = ["--model", str(tmp_path / "model.safetensors")]
    out = ["-o", str(tmp_path / "out"), "--json", str(tmp_path / name)]
    assert main(["restore", str(tmp_path / "a.png"), *model, *out]) == 2
    assert "would overwrite what is read or made here" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs folders that are closed to this user")
def test_a_closed_folder_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    assert main(["restore", str(tmp_path / "closed" / "a.png"), "-o", str(tmp_path / "out")]) == 1
    assert "a.png" in capsys.readouterr().err


def test_a_name_too_long_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["info", "x" * 300],
        ["evaluate", "quantface-mini", "--lq", "x" * 300, "-o", str(tmp_path / "o")],
    ):
        assert main(command) in (1, 2)
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_only_whole_pictures(photos: Path, models_dir: Path, tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    for i in range(60):
        (sources / f"{i:02d}.jpg").write_bytes((photos / "usnavy_grace_hopper.jpg").read_bytes())
    out = tmp_path / "out"
    # A shell's background jobs start with the signal ignored: the tests then still mean what they say.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from quantface_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "restore", str(sources), "-o", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(not name.startswith(".") for name in listing(out)):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "interrupted" in error
    assert "Traceback" not in error
    written = listing(out)
    assert 0 < len(written) < 60
    assert not [name for name in written if name.startswith(".")]
    for name in written:
        read_photo(out / name)


class TestEveryFile:
    """Whatever a file, a plugin or a user does, the rest goes on and the report says what became of it."""

    @pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, MemoryError, ZeroDivisionError, KeyError])
    def test_what_a_plugin_raises_is_that_files_error(
        self, photos: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        good = photos / "nasa_astronaut.png"
        Image.new("RGB", (80, 80)).save(tmp_path / "a.bmp")
        plain = BmpImagePlugin.BmpImageFile.load

        def broken(self: Image.Image) -> None:
            raise error("from a plugin\nof two lines")

        monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", broken)
        command = ["restore", str(tmp_path / "a.bmp"), str(good), "-o", str(tmp_path / "out")]
        assert main([*command, "--json", str(tmp_path / "r.json")]) == 1
        report = json.loads((tmp_path / "r.json").read_text())
        assert str(tmp_path / "a.bmp") in report["photos"][0]["error"]
        assert "\n" not in report["photos"][0]["error"]
        assert report["photos"][1]["restored"] == [0]
        assert report["finished"]
        assert plain is not broken

    def test_what_the_work_raises_is_that_photos_error(
        self,
        photos: Path,
        models_dir: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for error in (RuntimeError("CUDA out of memory"), MemoryError(), OSError(13, "Permission denied")):

            def fails(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr("quantface_core.pipelines.restore_picture.restore_photo", fails)
            assert main(["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path / "out")]) == 1
            line = next(x for x in capsys.readouterr().err.splitlines() if "error:" in x)
            assert "nasa_astronaut.png: " in line
            assert ("out of memory" in line) == (not isinstance(error, OSError))

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
    def test_permission_denied_is_told_so(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch(mode=0)
        with pytest.raises(ImageError, match=r"a\.png: permission denied"):
            read_photo(tmp_path / "a.png")

    def test_the_report_is_written_after_ctrl_c(
        self, photos: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sources = [photos / "nasa_astronaut.png", photos / "usnavy_grace_hopper.jpg"]
        real = restore_picture.restore_photo
        done = []

        def interrupted(*arguments: Any) -> Any:
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return real(*arguments)

        monkeypatch.setattr(restore_picture, "restore_photo", interrupted)
        command = ["restore", *map(str, sources), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]
        assert main(command) == 1
        report = json.loads((tmp_path / "r.json").read_text())
        assert [Path(p["source"]).name for p in report["photos"]] == ["nasa_astronaut.png"]
        assert not report["finished"]

    def test_the_report_says_what_a_folder_passed_over(
        self, photos: Path, models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "a.png").write_bytes((photos / "nasa_astronaut.png").read_bytes())
        (folder / "._a.png").write_bytes(b"\0\5\x16\7")
        (folder / "b.nef").write_bytes(b"")
        assert main(["restore", str(folder), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]) == 0
        assert "skipped: 1 ._ files of macOS; 1 cameras' raw files" in capsys.readouterr().err
        assert len(json.loads((tmp_path / "r.json").read_text())["skipped"]) == 2


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
        assert main(["restore", str(tmp_path / source), "-o", str(tmp_path / "out")]) == 0
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


def test_a_face_left_as_it_was_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, report = photos / "usnavy_grace_hopper.jpg", tmp_path / "report.json"
    assert main(["restore", str(photo), "--output", str(tmp_path), "--json", str(report)]) == 0
    assert "face 0 left as it was: no gain expected" in capsys.readouterr().err
    assert (tmp_path / photo.name).read_bytes() == photo.read_bytes()
    entry = json.loads(report.read_text())["photos"][0]
    assert entry["taken"] == [0.0]
    assert entry["done"] == ["left as it was: no gain expected"]
    assert main(["restore", str(photo), "--output", str(tmp_path), "--json", str(report), "--strength", "1"]) == 0
    assert json.loads(report.read_text())["photos"][0]["taken"] == [1.0]
    assert "left as it was" not in capsys.readouterr().err
    assert (tmp_path / photo.name).read_bytes() != photo.read_bytes()
    assert main(["restore", str(photo), "--output", str(tmp_path), "--strength", "0"]) == 0
    assert (tmp_path / photo.name).read_bytes() == photo.read_bytes()
