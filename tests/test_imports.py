"""The rooms of the core and what each may import (DESIGN.md section 5)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import quantface_core

CORE = Path(quantface_core.__file__).parent

# Room -> rooms it may import. `types` and `errors` are everybody's.
ALLOWED = {
    "types": set(),
    "errors": set(),
    "degrade": set(),
    "bundled": {"faces", "io", "degrade"},
    "metrics": set(),
    "charts": {"io", "metrics"},
    "kernels": set(),
    "nn": {"kernels"},
    "restorer": {"nn"},
    "faces": set(),
    "io": {"restorer", "nn", "kernels"},
    "stages": {"restorer", "faces", "nn", "kernels", "metrics"},
    "cli": {"restorer", "faces", "io", "stages", "degrade", "bundled", "metrics", "charts", "nn", "kernels"},
}


def _room(module: Path) -> str:
    return module.relative_to(CORE).parts[0].removesuffix(".py")


def _imported_rooms(module: Path) -> set[str]:
    """The core's rooms that a module imports, at its top or inside functions; type checking counts too."""
    package = module.relative_to(CORE).parts[:-1]
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            parts = [*base, *(node.module or "").split(".")] if node.module else list(base)
            names = [parts[0]] if parts else [alias.name for alias in node.names]
            rooms |= {name for name in names if (CORE / name).is_dir() or (CORE / f"{name}.py").is_file()}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            rooms |= {n.split(".")[1] for n in names if n.startswith("quantface_core.")}
    return rooms


MODULES = sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_room_imports_only_what_it_may(module: Path) -> None:
    room = _room(module)
    allowed = ALLOWED[room] | {room, "types", "errors"}
    assert _imported_rooms(module) <= allowed


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_knows_nothing_of_comfyui(module: Path) -> None:
    text = module.read_text("utf-8")
    assert not any(f"import {name}" in text or f"from {name}" in text for name in ("comfy", "folder_paths", "nodes"))


@pytest.mark.parametrize("node", sorted((CORE.parent / "nodes").glob("*.py")), ids=lambda p: p.name)
def test_nodes_leave_the_command_alone(node: Path) -> None:
    """But for starting it as a process of its own, as anybody may."""
    assert "..quantface_core.cli" not in node.read_text("utf-8")


@pytest.mark.parametrize("part", sorted((CORE.parent / "quantface_webui").glob("*.py")), ids=lambda p: p.name)
def test_the_webui_extension_leaves_the_command_alone(part: Path) -> None:
    assert "quantface_core.cli" not in part.read_text("utf-8")


def test_importing_the_package_is_light() -> None:
    code = "import sys, quantface_core; print([m for m in ('torch', 'diffusers', 'cv2') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CORE.parent)
    assert shown.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    for name in quantface_core.__all__:
        assert getattr(quantface_core, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = quantface_core.nonsense
