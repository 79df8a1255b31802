"""Whatever a file, a plugin or a user does, the rest goes on and the report says what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import BmpImagePlugin, Image

from quantface_core.cli.main import main
from quantface_core.errors import ImageError
from quantface_core.io.photos import read_photo
from quantface_core.pipelines import restore_picture
from tests.cli.listing import listing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM"])
def test_a_signal_to_end_leaves_only_whole_pictures(end: str, photos: Path, models_dir: Path, tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    for i in range(60):
        (sources / f"{i:02d}.jpg").write_bytes((photos / "usnavy_grace_hopper.jpg").read_bytes())
    out = tmp_path / "out"
    # A shell's background jobs start with the signal ignored: the tests then still mean what they say.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from quantface_core.cli.main import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        program,
        "restore",
        str(sources),
        "-o",
        str(out),
        "--json",
        str(tmp_path / "r.json"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(not name.startswith(".") for name in listing(out)):
        time.sleep(0.05)
    process.send_signal(getattr(signal, end))
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "interrupted" in error
    assert not json.loads((tmp_path / "r.json").read_text())["finished"]
    assert "Traceback" not in error
    written = listing(out)
    assert 0 < len(written) < 60
    assert not [name for name in written if name.startswith(".")]
    for name in written:
        read_photo(out / name)


class TestEveryFile:
    """Whatever a file, a plugin or a user does, the rest goes on and the report says what became of it."""

    def test_what_a_plugin_raises_is_that_files_error(
        self, photos: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = photos / "nasa_astronaut.png"
        errors = [RuntimeError, NotImplementedError, MemoryError, ZeroDivisionError, KeyError]
        bad = [tmp_path / f"{error.__name__}.bmp" for error in errors]
        for number, path in enumerate(bad):
            Image.new("RGB", (80 + number, 80)).save(path)

        def broken(self: Image.Image) -> None:
            raise errors[self.width - 80]("from a plugin\nof two lines")

        monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", broken)
        command = ["restore", *map(str, bad), str(good), "-o", str(tmp_path / "out")]
        assert main([*command, "--json", str(tmp_path / "r.json")]) == 1
        report = json.loads((tmp_path / "r.json").read_text())
        *failed, restored = report["photos"]
        for path, photo in zip(bad, failed, strict=True):
            assert str(path) in photo["error"]
            assert "\n" not in photo["error"]
        assert restored["restored"] == [0]
        assert report["finished"]

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

        def interrupted(*arguments: Any, **settings: Any) -> Any:
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return real(*arguments, **settings)

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
        assert "skipped: 1 ._ files of macOS; 1 camera raw files" in capsys.readouterr().err
        assert len(json.loads((tmp_path / "r.json").read_text())["skipped"]) == 2


def test_a_name_of_control_characters_stays_in_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\nb\x1b[31m.png").write_bytes(b"no picture")
    assert main(["restore", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert any("a\\x0ab\\x1b[31m.png" in line for line in error.splitlines())
    assert main(["info", str(tmp_path / "in" / "a\nb")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
