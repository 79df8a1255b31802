"""Low-rank branches on tensor cores: `down` over balanced inputs, in a form that fills a tile; products add `up`.

The 3x3 `down` of a branch has 16 or 32 outputs, and a library's tiles are often wider. Four neighbouring pixels
together read 4x4 pixels: as one convolution with stride 2 and four times the outputs the tile is full, and the map is
read 4 times instead of 9. For a 2x upsampled map, the four phases are such a group (see `upsample_conv`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fusion import StoredBranch
from ..upsample_conv import phase_kernels


def quadrupled(down: Tensor) -> Tensor:
    """[r, C, 3, 3] -> [4 r, C, 4, 4]: outputs (row, column, r) of 2x2 pixels, from the 4x4 that they read."""
    rank, channels = down.shape[:2]
    kernel = down.new_zeros(2, 2, rank, channels, 4, 4)
    for row in (0, 1):
        for column in (0, 1):
            kernel[row, column, :, :, row : row + 3, column : column + 3] = down
    return kernel.view(4 * rank, channels, 4, 4)


def of_phases(down: Tensor) -> Tensor:
    """[r, C, 3, 3] -> [4 r, C, 3, 3]: outputs (row, column, r) of the 2x2 pixels that one becomes."""
    rank, channels = down.shape[:2]
    kernel = down.new_zeros(2, 2, rank, channels, 3, 3)
    for number, phase in enumerate(phase_kernels(down)):
        row, column = divmod(number, 2)
        kernel[row, column, :, :, row : row + 2, column : column + 2] = phase
    return kernel.view(4 * rank, channels, 3, 3)


class Branch:
    """A layer's low-rank pair: `stored` returns down [r, C, *kernel] and up [O, r], whenever another form is made."""

    def __init__(self, stored: StoredBranch) -> None:
        self._stored = stored
        down, _ = stored()
        self.rank, self._kernel = len(down), down.shape[2:]
        self._made: dict[tuple[str, torch.dtype], Tensor] = {}

    def up(self, dtype: torch.dtype) -> Tensor:
        """up^T [r, O], in a dtype."""
        return self._in("up", dtype)

    def down(self, dtype: torch.dtype) -> Tensor:
        """down [r, C, *kernel], in a dtype; channels last where it has a kernel."""
        return self._in("down", dtype)

    def _in(self, form: str, dtype: torch.dtype) -> Tensor:
        if (form, dtype) not in self._made:
            down, up = self._stored()
            made = {"up": lambda: up.t(), "down": lambda: down, "quadrupled": lambda: quadrupled(down.float()),
                    "of_phases": lambda: of_phases(down.float())}[form]().to(dtype)  # fmt: skip
            maps = made.ndim == 4
            self._made[form, dtype] = made.contiguous(memory_format=torch.channels_last) if maps else made.contiguous()
        return self._made[form, dtype]

    def low(self, x: Tensor, stride: tuple[int, int], padding: tuple[int, int], upsample: bool) -> tuple[Tensor, bool]:
        """Apply `down` to balanced maps x [B, C, H, W]; return the result and whether its pixels are grouped.

        [B, H', W', r], False; with `upsample`, and where 2x2 pixels are taken at once, [B, H'/2, W'/2, 4 r], True:
        outputs (row, column, r) of each group.
        """
        grouped = self._kernel == (3, 3) and stride == padding == (1, 1) and not (x.shape[2] % 2 or x.shape[3] % 2)
        if upsample:
            made = F.conv2d(x, self._in("of_phases", x.dtype), None, 1, 1)
        elif grouped:
            made = F.conv2d(x, self._in("quadrupled", x.dtype), None, 2, 1)
        else:
            made = F.conv2d(x, self._in("down", x.dtype), None, stride, padding)
        return made.permute(0, 2, 3, 1).contiguous(), upsample or grouped
