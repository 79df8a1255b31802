"""`restore --scratches`: a damaged print is repaired, all over, before its faces are restored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quantface_core.cli.main import main
from quantface_core.io.photos import Photo, read_photo, write_photo
from tests.scratched import as_print, error, scratched

pytestmark = pytest.mark.usefixtures("models_dir")


def test_a_damaged_print_is_repaired(astronaut: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = as_print(astronaut)
    bad, where = scratched(whole)
    write_photo(Photo(bad, gray=True), tmp_path / "print.png")
    command = ["restore", str(tmp_path / "print.png"), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r.json")]
    assert main([*command, "--scratches"]) == 0
    repaired = read_photo(tmp_path / "out" / "print.png")
    assert repaired.gray
    assert error(repaired.pixels, whole, where) < 0.3 * error(bad, whole, where)
    share = json.loads((tmp_path / "r.json").read_text())["photos"][0]["repaired"]
    assert 0.01 < share < 0.1
    assert f"print.png: scratches repaired, {share:.1%} of the photo" in capsys.readouterr().err
    assert main(command) == 0
    assert "repaired" not in json.loads((tmp_path / "r.json").read_text())["photos"][0]


def test_a_photo_without_scratches_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(Photo(np.full((64, 64, 3), 90, np.uint8)), tmp_path / "plain.png")
    command = ["restore", str(tmp_path / "plain.png"), "-o", str(tmp_path / "out"), "--scratches"]
    assert main(command) == 0
    assert "plain.png: no scratches found" in capsys.readouterr().err


def test_an_archive_is_done_again_to_repair_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(Photo(np.full((64, 64, 3), 90, np.uint8)), tmp_path / "plain.png")
    command = ["restore", str(tmp_path / "plain.png"), "-o", str(tmp_path / "out"), "--skip-existing"]
    repair, done = ["--scratches"], "1 of 1 photos are done already"
    for more, told in (([], "wrote 1 of 1"), (repair, "wrote 1 of 1"), (repair, done)):
        assert main([*command, *more]) == 0
        assert told in capsys.readouterr().err


def test_films_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    assert main(["restore", str(tmp_path / "film.mp4"), "-o", str(tmp_path / "out.mp4"), "--scratches"]) == 2
    assert "--scratches: only for photos" in capsys.readouterr().err
