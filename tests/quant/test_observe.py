"""What calibration notes of each layer's input."""

from __future__ import annotations

import torch
from torch import nn

from quantface_core.quant.observe import calibrate


def test_a_layer_that_runs_twice_a_batch_is_ready_for_its_largest_input() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.layer(x / 100)  # type: ignore[no-any-return]

    x = torch.ones(4, 8)
    largest = calibrate(Twice().eval(), [x] * 30)["layer"].largest
    torch.testing.assert_close(largest, torch.ones(8))
