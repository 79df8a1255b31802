"""Upscalers' files: those of any architecture that spandrel knows load, others are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from quantface_core.errors import ModelError, UsageError
from quantface_core.io.upscalers import load_upscaler
from tests.published import FILES, needs_spandrel

pytestmark = pytest.mark.usefixtures("spandrel")


@pytest.fixture(scope="module")
def spandrel() -> None:
    needs_spandrel()


@pytest.fixture(scope="module")
def esrgan(spandrel: None) -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    return ESRGAN(num_filters=8, num_blocks=1).eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["wrapped.pth", "plain.pth", "model.safetensors"])
def test_a_file_enlarges_as_its_network(esrgan: nn.Module, tmp_path: Path, name: str) -> None:
    state = esrgan.state_dict()
    if name.endswith(".pth"):
        torch.save({"params_ema": state} if name == "wrapped.pth" else state, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    upscaler = load_upscaler(tmp_path / name)
    photo = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    with torch.no_grad():
        exact = esrgan(torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1)[None])[0].clamp(0, 1) * 255
    assert upscaler.scale == 4
    kernels = [weight for weight in upscaler.parameters() if weight.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    np.testing.assert_array_equal(upscaler(photo, 4), exact.permute(1, 2, 0).round().byte().numpy())


def test_it_goes_to_the_device_that_auto_prefers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantface_core.runtime.device._present", lambda: ["nowhere", "cpu"])
    with pytest.raises(UsageError, match="the device nowhere cannot be used here"):
        load_upscaler(tmp_path / "any.pth", "auto")


def test_a_network_of_certain_sizes_takes_any(tmp_path: Path) -> None:
    """SwinIR's attends within windows."""
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    sizes = {"depths": [1], "embed_dim": 12, "num_heads": [2], "window_size": 8, "upsampler": "pixelshuffledirect"}
    torch.save(SwinIR(img_size=16, upscale=2, **sizes).state_dict(), tmp_path / "swinir.pth")
    upscaler = load_upscaler(tmp_path / "swinir.pth")
    assert upscaler(np.zeros((11, 13, 3), np.uint8), 2).shape == (22, 26, 3)
    assert upscaler(np.zeros((1, 1, 3), np.uint16), 4).shape == (4, 4, 3)


def test_what_does_not_enlarge_photos_is_refused(esrgan: nn.Module, published: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"GFPGAN.*FaceSR.*does not enlarge photos"):
        load_upscaler(published / FILES["GFPGAN"])
    torch.save(type(esrgan)(in_nc=1, out_nc=1, num_filters=8, num_blocks=1).state_dict(), tmp_path / "gray.pth")
    with pytest.raises(ModelError, match=r"ESRGAN \(SR\) takes 1 channels and makes 1"):
        load_upscaler(tmp_path / "gray.pth")
    for name, state in (
        ("other.pth", {"weight": torch.zeros(3)}),
        ("nan.pth", {n: t * torch.nan for n, t in esrgan.state_dict().items()}),
    ):
        torch.save(state, tmp_path / name)
        with pytest.raises(ModelError, match=r"not an upscaler that spandrel knows|is not finite"):
            load_upscaler(tmp_path / name)
    torch.save({"run": print}, tmp_path / "hostile.pth")
    with pytest.raises(ModelError, match="more than weights"):
        load_upscaler(tmp_path / "hostile.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match="damaged"):
        load_upscaler(tmp_path / "cut.safetensors")
    with pytest.raises(ModelError, match="cannot read"):
        load_upscaler(tmp_path / "missing.pth")
