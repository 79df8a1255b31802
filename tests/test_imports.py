"""The rooms of the core and what each may import (docs/architecture.md)."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

import quantface_core

CORE = Path(quantface_core.__file__).parent

# Room -> rooms it may import. These are everybody's.
SHARED = {"types", "options", "errors", "bit_depth", "requirements", "plugins"}
METHOD = {"quant", "train", "nn", "kernels", "runtime"}  # on any model
ALLOWED = {
    "types": set(),
    "options": set(),
    "errors": set(),
    "requirements": set(),
    "plugins": set(),
    "bit_depth": set(),
    "degrade": set(),
    "runtime": set(),
    "bundled": {"faces", "io", "degrade"},
    "metrics": set(),
    "charts": {"io", "metrics"},  # of io the atomic files
    "kernels": {"runtime"},  # of it the device
    "nn": {"kernels", "runtime"},  # of it the memory
    "quant": {"nn", "kernels", "runtime", "io"},  # of io the files
    "train": METHOD - {"train"},
    "restorer": {"nn", "quant"},
    "faces": {"runtime"},  # of it the threads
    "io": {"restorer", "quant", "nn", "kernels", "runtime"},
    "stages": {*METHOD, "restorer", "faces", "metrics"},
    "pipelines": {*METHOD, "restorer", "faces", "io", "stages", "degrade", "bundled", "metrics", "charts"},
    "__main__": {"cli"},
    "cli": {"pipelines", *METHOD, "restorer", "faces", "io", "stages", "degrade", "bundled", "metrics", "charts"},
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


def _imported_modules(module: Path) -> set[Path]:
    """The core's modules that a module imports, wherever it does; type checking counts too."""
    package = module.relative_to(CORE).parent
    found = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = CORE.joinpath(*package.parts[: len(package.parts) - node.level + 1], *(node.module or "").split("."))
            named = [base / alias.name for alias in node.names]
            # A package's modules may name each other past the package itself: `from . import other`.
            beside = node.module is None and all((n.with_name(f"{n.name}.py")).is_file() or n.is_dir() for n in named)
            for name in named if beside else [*named, base]:
                found |= {p for p in (name.with_name(f"{name.name}.py"), name / "__init__.py") if p.is_file()}
    return found - {module, CORE / "__init__.py"}


MODULES = sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_room_imports_only_what_it_may(module: Path) -> None:
    room = _room(module)
    allowed = ALLOWED[room] | {room} | SHARED
    assert _imported_rooms(module) <= allowed


def test_no_import_runs_in_a_circle() -> None:
    """Modules that import none of the others are taken away until none is left."""
    left = {module: _imported_modules(module) - {module} for module in MODULES}
    while leaves := {module for module, needs in left.items() if not needs & set(left)}:
        left = {module: needs for module, needs in left.items() if module not in leaves}
    assert [str(module.relative_to(CORE)) for module in left] == []


TORCHS = set(dir(nn.Module()))  # `_parameters` and the like are not ours


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in TORCHS


def _born(module: Path) -> set[str]:
    """The private names that a module defines: functions, classes, constants and attributes."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if _private(name)}


def _reached(module: Path) -> set[str]:
    """The private names that a module imports or reads off anything but its own object."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            names.add(node.attr)
    return {name for name in names if _private(name)}


PRIVATE = {module: _born(module) for module in MODULES}


@pytest.mark.parametrize("module", [*MODULES, *sorted((CORE.parent / "nodes").glob("*.py"))], ids=lambda p: p.name)
def test_nobody_reaches_into_another_room(module: Path) -> None:
    """Names with an underscore are their room's own."""
    room = _room(module) if module in PRIVATE else ""
    others = set().union(*(names for other, names in PRIVATE.items() if _room(other) != room))
    own = _born(module).union(*(names for other, names in PRIVATE.items() if _room(other) == room))
    assert _reached(module) & (others - own) == set()


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


# What allocates, trains, measures, compiles, or restores films and other models.
FOR_OTHERS = "peft transformers accelerate pulp scipy av ray spandrel pyiqa torchvision matplotlib torch._dynamo"


def _loaded(code: str) -> list[str]:
    """The last line that a process prints, which is a list."""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CORE.parent)
    return list(ast.literal_eval(shown.stdout.splitlines()[-1]))


def test_importing_the_package_is_light() -> None:
    code = "import sys, quantface_core; print([m for m in ('torch', 'diffusers', 'cv2') if m in sys.modules])"
    assert _loaded(code) == []


def test_processes_that_compute_nothing_are_light() -> None:
    """What a host starts to fetch a model, and what counts a cluster's attempts."""
    code = """import sys
from quantface_core.io import hub
from quantface_core.pipelines import attempts, child
from quantface_core.pipelines.fetch import model_path
assert model_path("quantface-mini").is_file()
print([name for name in ("torch", "diffusers", "cv2") if name in sys.modules])
"""
    assert _loaded(code) == []


@pytest.mark.parametrize("arguments", [["--help"], ["info", "quantface-mini-w4a4"], ["demo", "--output"]])
def test_a_command_loads_only_what_it_needs(arguments: list[str], tmp_path: Path) -> None:
    code = """import contextlib, sys
from quantface_core.cli.main import main
spared = sys.argv.pop(1).split()
with contextlib.suppress(SystemExit):
    assert main() == 0
print([name for name in spared if name in sys.modules])
"""
    spared = FOR_OTHERS + " torch diffusers PIL" * (arguments == ["--help"])
    folder = [str(tmp_path)] * (arguments[-1] == "--output")
    run = [sys.executable, "-c", code, spared, *arguments, *folder]
    shown = subprocess.run(run, capture_output=True, text=True, check=True, cwd=CORE.parent)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_restoring_does_without_packages_that_are_broken(tmp_path: Path) -> None:
    """As those built for another torch: diffusers imports every one that it finds."""
    for name in ("bitsandbytes", "flash_attn", "gguf", "kernels", "scipy", "torchao", "torchvision", "xformers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        (tmp_path / f"{name}-9.dist-info").mkdir()
        described = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n"
        (tmp_path / f"{name}-9.dist-info" / "METADATA").write_text(described)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(CORE.parent)!r}]\n"
    code += "from quantface_core.cli.main import main; sys.exit(main())"
    run = [sys.executable, "-c", code, "demo", "--output", str(tmp_path / "demo")]
    shown = subprocess.run(run, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def test_a_command_called_by_an_application_leaves_its_diffusers_whole() -> None:
    code = """from quantface_core.cli.main import main
assert main(["info", "quantface-mini-w4a4"]) == 0
from diffusers.utils import is_transformers_available
print(is_transformers_available())
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CORE.parent)
    assert shown.stdout.splitlines()[-1] == str(importlib.util.find_spec("transformers") is not None)


def test_restoring_and_building_do_without_what_a_webui_lacks() -> None:
    """What allocates or trains asks for it, and says so."""
    code = """import importlib, sys
for extra in "pulp peft pyiqa av spandrel ray pyarrow".split():
    sys.modules[extra] = None
for name in "fetch build quantize evaluate restore_file restore_picture archive bulk child".split():
    importlib.import_module("quantface_core.pipelines." + name)
from quantface_core.errors import QuantFaceError
try:
    importlib.import_module("quantface_core.pipelines.distill")
except QuantFaceError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CORE.parent)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == f"training needs PEFT: {sys.executable} -m pip install peft"


def test_a_peft_that_lacks_something_itself_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "__init__.py").write_text("import nowhere")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import quantface_core.nn.adapters"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CORE.parent)
    assert shown.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'nowhere'"


def test_every_public_name_exists() -> None:
    for name in quantface_core.__all__:
        assert getattr(quantface_core, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = quantface_core.nonsense


def _own_classes(hint: object) -> Iterator[type]:
    """The core's classes in an annotation, a callback's arguments too."""
    if isinstance(hint, type) and hint.__module__.startswith("quantface_core."):
        yield hint
    for part in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from _own_classes(part)


VERBS = ["quantize", "measure_sensitivity", "solve_plan", "summarize_plan", "allocate", "distill", "TrainerCallbacks"]


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_public_verb_takes_and_gives_is_public(verb: str) -> None:
    hints = typing.get_type_hints(getattr(quantface_core, verb))
    assert {c.__name__ for hint in hints.values() for c in _own_classes(hint)} <= set(quantface_core.__all__)
