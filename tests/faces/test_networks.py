"""The bundled networks: small files, refused when damaged, loaded alike whatever torch's defaults are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from quantface_core.errors import ModelError
from quantface_core.faces import blend, clean_network

Load = Callable[[Path], nn.Module]

networks = pytest.mark.parametrize(
    ("load", "bundled", "largest"),
    [(blend.load_blend, blend.BUNDLED, 1_000_000), (clean_network.load_cleaner, clean_network.BUNDLED, 1_500_000)],
    ids=["blend", "clean"],
)


@networks
def test_a_damaged_network_is_refused(load: Load, bundled: Path, largest: int, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(bundled.read_bytes()[:1000])
    save_file({name: torch.zeros(1) for name in load(bundled).state_dict()}, tmp_path / "other.safetensors")
    for name in ("cut", "other", "missing"):
        with pytest.raises(ModelError, match=f"{name}.safetensors.*reinstall"):
            load(tmp_path / f"{name}.safetensors")


@networks
def test_it_is_small(load: Load, bundled: Path, largest: int) -> None:
    assert bundled.stat().st_size < largest


@networks
def test_it_is_loaded_in_float32_on_the_cpu(load: Load, bundled: Path, largest: int) -> None:
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            parameters = list(load(bundled).parameters())
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.device.type for p in parameters} == {"cpu"}
    assert {p.dtype for p in parameters} == {torch.float32}


@networks
def test_it_leaves_the_programs_random_numbers_alone(load: Load, bundled: Path, largest: int) -> None:
    before = torch.get_rng_state()
    load(bundled)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_hosts_autocast_changes_nothing() -> None:
    image = np.random.default_rng(0).random((64, 64, 3), np.float32)
    clean, share = clean_network.without_artifacts(image), blend.blend_share(image, image[::-1])
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(clean_network.without_artifacts(image), clean)
        assert np.array_equal(blend.blend_share(image, image[::-1]), share)
