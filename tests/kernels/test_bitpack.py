from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.kernels.bitpack import pack, packed_size, unpack
from quantface_core.types import BITS, widths_in_words


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(BITS)), st.lists(st.integers(0, 7), max_size=3), st.integers(0, 2**31))
def test_pack_and_unpack_are_the_identity(bits: int, shape: list[int], seed: int) -> None:
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    codes = torch.randint(low, high, tuple(shape), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-codes.numel() * bits // 8) == packed_size(codes.numel(), bits)
    assert torch.equal(unpack(packed, bits, tuple(shape)), codes)


def test_layout_is_the_documented_one() -> None:
    assert pack(torch.tensor([-8, 7], dtype=torch.int8), 4).tolist() == [0xF0]  # low nibble: even column
    four_sixes = torch.tensor([1, 2, 3, 4], dtype=torch.int8)
    stream = sum((int(c) + 32) << (6 * i) for i, c in enumerate(four_sixes))
    assert pack(four_sixes, 6).tolist() == list(stream.to_bytes(3, "little"))


@pytest.mark.parametrize("bits", [BITS.start - 1, 9, 99])
def test_other_widths_are_refused(bits: int) -> None:
    for call in (lambda: pack(torch.zeros(1, dtype=torch.int8), bits), lambda: unpack(torch.zeros(1), bits, (1,))):
        with pytest.raises(ConfigError, match=f"widths are {widths_in_words()}"):
            call()


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit 4 bits"):
        pack(torch.tensor([8], dtype=torch.int8), 4)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, dtype=torch.uint8),
        torch.zeros(1, 3, dtype=torch.uint8),
        torch.zeros(3, dtype=torch.int8),
        torch.zeros(3),
    ],
)
def test_a_wrong_size_or_dtype_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="6 codes of 4 bits are 3 bytes"):
        unpack(wrong, 4, (2, 3))
