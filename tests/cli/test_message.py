"""What is printed: names in any script, and to a reader who leaves early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import quantface_core
from quantface_core.cli.main import FAILED, main

PHOTO = Path(quantface_core.__file__).parent / "assets" / "astronaut.jpg"
COMMAND = "import sys; from quantface_core.cli.main import main; sys.exit(main())"
ROOT = Path(__file__).parents[2]


def test_names_that_the_code_page_lacks_are_printed_escaped(tmp_path: Path) -> None:
    """As on Windows, where output that goes to a file or pipe is in the system's code page."""
    environment = {**os.environ, "QUANTFACE_MODELS_DIR": str(tmp_path / "模型"), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-c", COMMAND, "models"]
    run = subprocess.run(command, capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr.decode()
    assert b"models folder: " in run.stdout
    assert rb"\u6a21\u578b" in run.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has another error for it")
def test_a_reader_that_leaves_early_ends_the_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `quantface models | head -1` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["models"]) == FAILED
        print("nobody reads this")  # nor does what is printed later raise, at the interpreter's end
    assert capfd.readouterr().err == ""


def test_a_command_needs_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it was closed, or Windows starts it without a console."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["models"]) == 0


def test_without_standard_error_notices_stay_out_of_the_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As `2>&-` closes it."""
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["info", str(tmp_path / "absent.safetensors")]) == FAILED
    assert main(["detect", str(PHOTO), "-o", str(tmp_path / "faces.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{PHOTO}: 1 face, see ")


def test_the_package_is_the_command_where_its_script_is_not_on_the_path() -> None:
    command = [sys.executable, "-m", "quantface_core", "info", "nowhere.safetensors"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (FAILED, "quantface: nowhere.safetensors: no such model file\n")
