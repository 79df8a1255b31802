"""Importing diffusers without what restoring never uses."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from quantface_core.cli.lean_diffusers import import_lean_diffusers

import_lean_diffusers()
import torch

print("torch._dynamo" in sys.modules)
compiled = torch.compile(lambda x: x + 1, backend="eager")
print(int(compiled(torch.tensor(1))), sys.modules["torch._dynamo"].__file__ is not None)
"""


def test_torchs_compiler_is_spared_and_works_afterwards() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "2", "True"]
