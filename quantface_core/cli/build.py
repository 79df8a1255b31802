"""`quantface build`: make a low-bit model from a full-precision one.

A recipe says how: calibrate -> allocate -> quantize -> distill -> save ->
evaluate. Each stage's result is saved in a folder under a name that depends
on its settings and everything before it: stop at any time and run the command
again to resume; change the recipe, and only what changed is rebuilt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..io.catalogue import models_folder
from ..io.file_identity import real_path
from .devices import add_device_argument, resolve_device
from .outputs import check_model_output, size_of
from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "build",
        help="make a low-bit model from a recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", nargs="?", help="a shipped recipe's name, or a .toml file; none = list them")
    add("--images", type=Path, help="folder of aligned faces; none = one bundled portrait, degraded in many ways")
    add("--degrade", action="store_true", help="the images are clean: degrade them first, with fixed seeds")
    add("--test", type=Path, help="folder of other faces (clean with --degrade) to evaluate the result on")
    add("--output", "-o", type=Path, help="the .safetensors file to write (RECIPE.safetensors)")
    add("--work", type=Path, help="folder for the stages' results (OUTPUT.build)")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.recipes import known_recipes, load_recipe
    from ..pipelines.build import BuildRequest, build, check_build

    if arguments.recipe is None:
        print("\n".join(known_recipes()))
        return 0
    recipe = load_recipe(arguments.recipe)
    output = arguments.output or Path(f"{recipe.name}.safetensors")
    check_model_output(output, recipe.source)
    request = BuildRequest(
        recipe,
        output,
        arguments.work or output.with_suffix(".build"),
        resolve_device(arguments),
        arguments.images,
        arguments.degrade,
        arguments.test,
    )
    check_build(request)
    with ProgressBars() as callbacks:
        result = build(request, callbacks)
    if result.plan:
        print(f"plan: {result.plan}")
    print(f"{output}: {size_of(output)}")
    if result.evaluation:
        print(result.evaluation.table)
    print(f"to use it: quantface restore PHOTO --model {_name_of(output)}")
    return 0


def _name_of(output: Path) -> str:
    """What `--model` takes for a finished file, in a shell: its name in the models folder, elsewhere its path."""
    is_named = real_path(output).parent == real_path(models_folder())
    name = output.stem if is_named else str(output)
    return f'"{name}"' if " " in name else name
