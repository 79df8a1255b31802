"""A convolution of doubled pixels from the picture itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.kernels.upsample_conv import doubled_conv2d, phase_kernels, phases, window


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 8), st.integers(1, 8)),
    outputs=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_phase_convolutions_equal_upsampling_then_convolving(size, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(size, generator=generator), torch.randn(outputs, size[1], 3, 3, generator=generator)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(doubled_conv2d(x, phase_kernels(weight)), expected, rtol=1e-5, atol=1e-5)


def test_each_phase_is_a_convolution_of_its_window() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 3, 4, 5, generator=generator), torch.randn(6, 3, 3, 3, generator=generator)
    doubled = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)[0].permute(1, 2, 0)
    padded = F.pad(x, (1, 1, 1, 1))[0].permute(1, 2, 0)
    for number, (kernel, expected) in enumerate(zip(phase_kernels(weight), phases(doubled), strict=True)):
        seen = window(padded, number).permute(2, 0, 1)[None]
        torch.testing.assert_close(F.conv2d(seen, kernel)[0].permute(1, 2, 0), expected, rtol=1e-5, atol=1e-5)
