"""`restore --upscaler`: a network of the user's enlarges the photo around its faces."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from quantface_core.cli.main import main
from quantface_core.io.checksum import sha256
from quantface_core.io.photos import read_photo
from quantface_core.io.upscalers import load_upscaler
from tests.published import needs_spandrel


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_spandrel()
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("upscaler") / "small.pth"
    torch.save(ESRGAN(num_filters=8, num_blocks=1).state_dict(), path)
    return path


def test_what_is_around_the_faces_is_the_networks(
    upscaler: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, photo = read_photo(photos / "nasa_astronaut.png").pixels[:280, 90:350], tmp_path / "photo.png"
    cv2.imwrite(str(photo), cv2.resize(pixels, (96, 104), interpolation=cv2.INTER_AREA)[..., ::-1])
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = ["restore", str(photo), "-o", str(out), "--upscale", "2", "--upscaler", str(upscaler)]
    assert main([*command, "--skip-existing", "--json", str(report)]) == 0
    told = json.loads(report.read_text())
    assert told["upscaler_sha256"] == sha256(upscaler)
    left, top, width, height = (round(2 * value) for value in told["photos"][0]["faces"][0]["box"])
    made, alone = read_photo(out / "photo.png").pixels, load_upscaler(upscaler)(read_photo(photo).pixels, 2)
    assert made.shape == (208, 192, 3)
    assert np.array_equal(made[-40:], alone[-40:])
    face = np.s_[top : top + height, left : left + width]
    assert np.abs(made[face].astype(int) - alone[face]).mean() > 10  # of a network that has learned nothing
    capsys.readouterr()
    assert main([*command, "--skip-existing"]) == 0
    assert "1 of 1 photos are done already" in capsys.readouterr().err
    without = [word for word in command if word not in ("--upscaler", str(upscaler))]
    assert main([*without, "--skip-existing"]) == 0  # other settings: made anew
    assert not np.array_equal(read_photo(out / "photo.png").pixels[-40:], alone[-40:])


def test_a_file_that_is_no_upscaler_is_told_before_anything_is_restored(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_spandrel()
    (tmp_path / "x.pth").write_bytes(b"nothing")
    command = ["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path / "out"), "--upscale", "2"]
    assert main([*command, "--upscaler", str(tmp_path / "x.pth")]) == 1
    assert f"{tmp_path / 'x.pth'}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_never_overwrites_the_network(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pth").write_bytes(b"weights")
    command = ["restore", str(photos / "nasa_astronaut.png"), "-o", str(tmp_path / "out"), "--upscale", "2"]
    assert main([*command, "--upscaler", str(tmp_path / "x.pth"), "--json", str(tmp_path / "x.pth")]) == 2
    assert "would overwrite a file that is read or written here" in capsys.readouterr().err
    assert (tmp_path / "x.pth").read_bytes() == b"weights"
