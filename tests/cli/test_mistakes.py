"""A mistake in a command shows before its work, which takes minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.cli.main import main

BUDGET = ["--weight-bits", "4"]


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: object, **__: object) -> None:
        pytest.fail("the work began")

    for name in ("load_restorer", "save_restorer"):
        monkeypatch.setattr(f"quantface_core.pipelines.models.{name}", begun)
    monkeypatch.setattr("quantface_core.pipelines.build.load_restorer", begun)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "faces" / "a.png")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "m.safetensors").write_bytes(b"a model")
    (tmp_path / "link.safetensors").symlink_to("m.safetensors")
    (tmp_path / "own.toml").write_text('source = "m.safetensors"')
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", "models")
    return tmp_path


@pytest.mark.usefixtures("no_work", "place")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["calibrate", "quantface-mini", "--images", "faces", "-o", "file/a.safetensors"], "file is a file, not"),
        (["calibrate", "quantface-mini", "--images", "faces", "-o", "folder.safetensors"], "is a folder"),
        (["calibrate", "quantface-mini", "--images", "faces", "-o", "a.bin"], "name a .safetensors file"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "file/a.json", *BUDGET], "file is a file, not"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "empty", *BUDGET], "is a folder"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "a.json"], "at least one budget"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "a.json", "--megabytes", "nan"], "above 0"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "a.json", *BUDGET, "--chart", "c.jpg"], ".png"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "a.json", *BUDGET, "--chart", "file/c.png"], "file"),
        (["allocate", "quantface-mini", "--images", "faces", "-o", "a.json", *BUDGET, "--perceptual", "x"], "x"),
        (
            ["allocate", "quantface-mini", "--images", "faces", "-o", "a.json", *BUDGET, "--sensitivity", "a.json"],
            "would overwrite a file that is read or written here",
        ),
        (["allocate", "quantface-mini", "-o", "a.json", *BUDGET], "--images: name a folder of faces"),
        (["build", "mini-w4a4", "--test", "gone", "-o", "a.safetensors"], "test gone: no such folder"),
        (["build", "mini-w4a4", "--images", "gone", "-o", "a.safetensors"], "images gone: no such folder"),
        (["build", "mini-w4a4", "--test", "empty", "-o", "a.safetensors"], "no photos found"),
        (["build", "mini-w4a4", "-o", "file/a.safetensors"], "file is a file, not"),
        (["distill", "a", "--teacher", "b", "--images", "faces", "-o", "file/a.safetensors"], "file is a file, not"),
        # What is read is not overwritten, however it is named.
        (["calibrate", "m.safetensors", "--images", "faces", "-o", "m.safetensors"], "would overwrite a file that"),
        (["calibrate", "m.safetensors", "--images", "faces", "-o", "link.safetensors"], "would overwrite a file that"),
        (["calibrate", "own", "--images", "faces", "-o", "models/own.safetensors"], "would overwrite a file that"),
        (["calibrate", "osdface", "--images", "faces", "-o", "models/osdface.safetensors"], "would overwrite a file"),
        (["distill", "m.safetensors", "--teacher", "b", "--images", "faces", "-o", "m.safetensors"], "would overwrite"),
        (["distill", "a", "--teacher", "m.safetensors", "--images", "faces", "-o", "m.safetensors"], "would overwrite"),
        (["allocate", "m.safetensors", "--images", "faces", "-o", "m.safetensors", *BUDGET], "would overwrite a file"),
        (["build", "own.toml", "-o", "m.safetensors"], "would overwrite a file that"),
    ],
)
def test_it_is_told_first(command: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert message in capsys.readouterr().err
