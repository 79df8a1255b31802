"""Every script of `benchmarks/` and `training/` imports what it needs, and answers `--help`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("benchmarks", "training")
    for path in (ROOT / room).glob("*.py")
    if "__main__" in path.read_text("utf-8")
)
# One process for all, for most of each one's time is importing torch.
_ASK_ALL = """
import contextlib, io, json, runpy, sys
from pathlib import Path

answers = {}
for script in sys.argv[1:]:
    sys.path[0], sys.argv, text = str(Path(script).parent), [script, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_path(script, run_name="__main__")
        answers[script] = "it ran"
    except ImportError as error:
        own = error.name and Path(script).with_name(f"{error.name}.py").exists()
        missing = error.name and not error.name.startswith(("quantface", "benchmarks", "tests")) and not own
        answers[script] = ("skip: " if missing else "") + str(error)
    except SystemExit as end:
        shown = text.getvalue().startswith("usage:")
        answers[script] = "" if shown and not end.code else f"exit {end.code}: {text.getvalue()[:200]}"
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _ASK_ALL, *SCRIPTS]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_prints_help(script: str, answers: dict[str, str]) -> None:
    if answers[script].startswith("skip: "):
        pytest.skip(answers[script].removeprefix("skip: "))
    assert answers[script] == ""
