"""Training pairs of a stage: clean faces and seeded degradations of them, reproducible by step."""

from __future__ import annotations

import numpy as np
from conditions import draw_crop
from data import jitter_light, one_damage, recipe_of, soft_and_noisy
from objectives import Stage
from torch.utils.data import Dataset

from quantface_core.degrade import Degradation, degrade

MILD = Degradation(blur_sigma=(0.0, 1.5), downscale=(1.0, 2.0), noise_sigma=(0.0, 6.0), jpeg_quality=(60, 95))


class Pairs(Dataset):
    """(clean, degraded) [S, S, 3] uint8 of faces [N, S, S, 3]: item `i` is sample `i % batch` of step `i // batch`.

    It depends only on (seed, i), so that a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(self, faces: np.ndarray, stage: Stage, seed: int) -> None:
        self.faces, self.stage, self.seed = faces, stage, seed

    def __len__(self) -> int:
        return self.stage.steps * self.stage.batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng, stage = np.random.default_rng((self.seed, index)), self.stage
        if stage.cleaned and stage.severity is not None:
            degraded, clean, _ = draw_crop(self.faces, rng.random() ** stage.severity, rng)
            if rng.random() < 0.5:
                clean, degraded = clean[:, ::-1], degraded[:, ::-1]
            return np.ascontiguousarray(clean), np.ascontiguousarray(degraded)
        clean = self.faces[rng.integers(len(self.faces))]
        if rng.random() < 0.5:
            clean = np.ascontiguousarray(clean[:, ::-1])
        if stage.severity is not None:
            clean = jitter_light(clean, rng)
            return clean, degrade(clean, int(rng.integers(2**31)), draw_recipe(rng.random() ** stage.severity, rng))
        recipe = MILD if rng.random() < stage.mild else Degradation()
        return clean, degrade(clean, int(rng.integers(2**31)), recipe)


def draw_recipe(severity: float, rng: np.random.Generator) -> Degradation:
    """Mostly everything at once; a single damage one time in four, soft with noise one time in five."""
    kind = rng.random()
    if kind < 0.25:
        return one_damage(severity, rng)
    return soft_and_noisy(severity) if kind < 0.45 else recipe_of(severity)
