"""A codebook that looks codes up by index, in any dtype; spandrel's multiplies one-hot rows in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Codebook(nn.Module):
    """Replacement for spandrel's `VectorQuantizer` of CodeFormer and RestoreFormer, with the same codes."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.embedding = plain.embedding

    def forward(self, z: Tensor) -> tuple[Tensor, None, None]:
        """[B, C, h, w] -> (each position's nearest code [B, C, h, w], None, None).

        Distances are computed in float32; gradients pass straight through.
        """
        rows, codes = z.movedim(1, -1).float(), self.embedding.weight.float()
        distances = rows.square().sum(-1, keepdim=True) + codes.square().sum(1) - 2 * rows @ codes.t()
        nearest = self.embedding(distances.argmin(-1)).movedim(-1, 1)
        return z + (nearest - z).detach(), None, None

    def get_codebook_feat(self, indices: Tensor, shape: Sequence[int]) -> Tensor:
        """The codes of `indices`, B * h * w of them, for `shape` (B, h, w, C): -> [B, C, h, w]."""
        codes: Tensor = self.embedding(indices.flatten())
        return codes.view(*shape).permute(0, 3, 1, 2).contiguous()
