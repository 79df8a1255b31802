"""`quantface build`: from a full-precision model to a finished low-bit one, as a recipe says.

calibrate -> allocate -> quantize -> distill -> save -> evaluate. What a stage made is kept in a folder
under a name that hangs on its settings and all before it: stop at any time, give the command again, and it
goes on; change the recipe, and only what changed is made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundled import bundled_faces
from ..errors import UsageError
from ..io.atomic import check_writable
from . import evaluate
from .allocate import measure
from .calibrate import images_sha256, quantize
from .devices import add_device, choose_device
from .distill import train
from .faces import read_faces
from .pairs import find_pairs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..io.recipes import Recipe
    from ..restorer import Restorer
    from ..types import BitPlan

_LICENCE = "licence"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "build",
        help="make a low-bit model as a recipe says",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", nargs="?", help="a shipped recipe's name, or a .toml file; none = list them")
    add("--images", type=Path, help="folder of aligned faces; none = one bundled portrait, degraded in many ways")
    add("--degrade", action="store_true", help="the images are clean: degrade them first, with seeds")
    add("--test", type=Path, help="folder of other faces (clean with --degrade) to evaluate the result on")
    add("--output", "-o", type=Path, help="the .safetensors file to write (RECIPE.safetensors)")
    add("--work", type=Path, help="folder for what the stages make (OUTPUT.build)")
    add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.recipes import known_recipes, load_recipe

    if arguments.recipe is None:
        print("\n".join(known_recipes()))
        return 0
    recipe = load_recipe(arguments.recipe)
    output = arguments.output or Path(f"{recipe.name}.safetensors")
    if output.suffix != ".safetensors":
        raise UsageError(f"--output {output}: name a .safetensors file")
    check_writable(output, "--output")
    if arguments.test:
        find_pairs(arguments.test, None, arguments.degrade, None)
        if not recipe.metrics:
            raise UsageError(f"--test: the recipe {recipe.name} names no metrics to evaluate with")
    work = arguments.work or output.with_suffix(".build")
    Build(recipe, arguments.images, arguments.degrade, output, work, choose_device(arguments.device)).run()
    return _evaluate(recipe, arguments, output, work) if arguments.test and recipe.metrics else 0


def _evaluate(recipe: Recipe, arguments: argparse.Namespace, output: Path, work: Path) -> int:
    """The finished model against its original on the test faces, as `quantface evaluate` does."""
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    command = ["evaluate", str(output), "--reference", recipe.source, "--lq", str(arguments.test)]
    command += ["--metrics", *recipe.metrics, "--output", str(work / "evaluation"), "--device", arguments.device]
    return evaluate.run(parser.parse_args(command + ["--degrade"] * arguments.degrade))


def built(name: str) -> Path | None:
    """What a shipped recipe makes, in the models folder, made first when it is not there; None for other names.

    Two processes at once make it once. Raises what building raises.
    """
    from ..io.catalogue import models_folder
    from ..io.hub import locked
    from ..io.models import to_stderr
    from ..io.recipes import known_recipes, load_recipe

    if name not in known_recipes():
        return None
    output = models_folder() / f"{name}.safetensors"
    with locked(output, to_stderr):
        if not output.is_file():
            work = output.with_suffix(".build")
            Build(load_recipe(name), None, False, output, work, choose_device("auto")).run()
            shutil.rmtree(work, ignore_errors=True)
    return output


class Build:
    """One recipe carried out for one output, over the results that are there already."""

    def __init__(
        self, recipe: Recipe, images: Path | None, degraded: bool, output: Path, work: Path, device: torch.device
    ) -> None:
        from ..io.checkpoint import load_restorer
        from ..io.models import restorer_path, sha256

        self.recipe, self.output, self.work, self.device = recipe, output, work, device
        self.source = restorer_path(recipe.source)
        size = load_restorer(self.source, only=()).config.image_size
        count = max(recipe.images, recipe.faces if recipe.distill else 0)
        self.images = read_faces(images, count, size, degraded) if images else bundled_faces(recipe.images, size)
        self.identity = [sha256(self.source), images_sha256(self.images)]

    def run(self) -> None:
        plan = self._plan()
        low = self._quantized(plan)
        self._finished(low)

    def _named(self, stage: str, suffix: str, settings: Any) -> Path:
        """The file a stage makes: its name hangs on its settings and on every stage before it."""
        self.identity.append(json.dumps(settings, sort_keys=True))
        digest = hashlib.sha256("\n".join(self.identity).encode()).hexdigest()[:12]
        return self.work / f"{stage}-{digest}{suffix}"

    def _full(self) -> Restorer:
        """The full-precision restorer, read when a stage needs it: at full size it is 4 GB."""
        from ..io.checkpoint import load_restorer

        return load_restorer(self.source, self.device)

    @property
    def _calibration(self) -> Tensor:
        return self.images[: self.recipe.images]

    def _plan(self) -> BitPlan | None:
        recipe = self.recipe
        if recipe.budget is None:
            return None
        from ..charts import draw_bits, save_chart
        from ..io.plans import load_plan, load_sensitivity, save_plan, save_sensitivity
        from ..quant.bit_program import describe, solve

        measured = self._named("sensitivity", ".json", [asdict(recipe.quantize), recipe.images, recipe.perceptual])
        planned = self._named("plan", ".json", asdict(recipe.budget))
        if not measured.exists():
            save_sensitivity(measure(self._full(), self._calibration, recipe.quantize, recipe.perceptual), measured)
        sensitivity = load_sensitivity(measured)
        if not planned.exists():
            save_plan(solve(sensitivity, recipe.budget), planned)
        plan = load_plan(planned)
        save_chart(draw_bits(plan, sensitivity), planned.with_suffix(".png"))
        print(f"plan: {describe(plan, sensitivity)}")
        return plan

    def _quantized(self, plan: BitPlan | None) -> Path:
        from ..io.checkpoint import save_restorer

        recipe = self.recipe
        path = self._named("quantized", ".safetensors", [asdict(recipe.quantize), recipe.images])
        if not path.exists():
            low = self._full()
            _, notes = quantize(low, self._calibration, recipe.quantize, plan)
            save_restorer(low, path, notes=notes)
        print(f"quantized: {path}, {path.stat().st_size / 1e6:.1f} MB")
        return path

    def _finished(self, quantized: Path) -> None:
        from ..io.checkpoint import load_restorer, read_notes, save_restorer

        recipe, low, notes = self.recipe, load_restorer(quantized, self.device), read_notes(quantized)
        notes |= {k: v for k, v in read_notes(self.source).items() if k == _LICENCE}
        notes["recipe"] = recipe.name
        if recipe.distill:
            held = min(recipe.validation, len(self.images) // 2)
            folder = self._named("distill", "", [asdict(recipe.distill), recipe.mode, recipe.faces, held])
            split = (self.images[: len(self.images) - held], self.images[len(self.images) - held :])
            notes |= train(low, self._full(), *split, recipe.distill, folder, recipe.mode)
        save_restorer(low, self.output, notes=notes)
        print(f"{self.output}: {self.output.stat().st_size / 1e6:.1f} MB")
