"""Names in any script, whatever the encoding of the stream that they are printed to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = "import sys; from quantface_core.cli.main import main; sys.exit(main())"


def test_names_that_the_code_page_lacks_are_printed_escaped(tmp_path: Path) -> None:
    """As on Windows, where output that goes to a file or pipe is in the system's code page."""
    environment = {**os.environ, "QUANTFACE_MODELS_DIR": str(tmp_path / "模型"), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-c", COMMAND, "models"]
    run = subprocess.run(command, capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr.decode()
    assert b"models folder: " in run.stdout
    assert rb"\u6a21\u578b" in run.stdout
