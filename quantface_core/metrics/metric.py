"""A metric of images, whoever computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

_Score = TypeVar("_Score", float, Tensor)


@dataclass(frozen=True)
class Metric:
    """One score per image, [B]: of images [B, 3, H, W] in 0 to 1 and references like them, or of images alone."""

    name: str
    compute: Callable[..., Tensor]
    lower_better: bool = False
    compares: bool = True  # with references; False = judges single images

    def __call__(self, pictures: Tensor, references: Tensor | None = None) -> Tensor:
        """Scores [B]. Raises ImageError or QuantFaceError for images that the metric cannot judge."""
        return self.compute(pictures, references) if self.compares else self.compute(pictures)

    def loss(self, score: _Score) -> _Score:
        """A score as a loss, lower is better: of a similarity with 1 = identical, its distance from that."""
        return score if self.lower_better else 1 - score
