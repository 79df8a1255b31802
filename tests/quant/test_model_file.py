"""What a model's file holds of its state, and what is refused: nothing is lost without a word."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import quantface_core as qf
from quantface_core.errors import ModelError, UsageError
from tests.quant.checkpoints import CONFIG, ROWS, Masked, metadata


def test_numbers_of_double_precision_are_kept(tmp_path: Path) -> None:
    class Precise(Masked):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("betas", torch.linspace(0, 1, 9, dtype=torch.float64))
            self.second.double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).double()) + self.betas.sum()

    model = Precise()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    qf.save_quantized(model, tmp_path / "file")
    loaded = qf.load_quantized(tmp_path / "file", Precise())
    assert loaded.betas.dtype == loaded.second.weight.dtype == torch.float64
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    class Extra(Masked):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    model = Extra()
    qf.quantize(model, ROWS, CONFIG)
    with pytest.raises(ModelError, match=r"get_extra_state returns: _extra_state"):
        qf.save_quantized(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_dtypes_and_notes_that_no_file_holds_are_refused(own: Path, tmp_path: Path) -> None:
    model: Any = qf.load_quantized(own, Masked())
    for dtype in (torch.int8, torch.float8_e4m3fn, "float16"):
        for refused in (
            lambda dtype: qf.save_quantized(model, tmp_path / "file", dtype),
            lambda dtype: qf.load_quantized(own, Masked(), dtype=dtype),
        ):
            with pytest.raises(UsageError, match=r"a dtype is torch.float64, .* or None"):
                refused(dtype)
    with pytest.raises(UsageError, match="notes must be text, not numbers or tables: steps"):
        qf.save_quantized(model, tmp_path / "file", notes={"licence": "mit", "steps": 3})  # type: ignore[dict-item]
    for name in ("family", "layers", "config", "format"):
        with pytest.raises(UsageError, match=f"these names are reserved by the format, rename the notes: {name}"):
            qf.save_quantized(model, tmp_path / "file", notes={"licence": "mit", name: "mine"})
    model.second.to(torch.float8_e4m3fn)
    with pytest.raises(ModelError, match=r"cannot hold torch.float8_e4m3fn, give .*: second.weight, second.bias"):
        qf.save_quantized(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_here_is_refused(own: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"the device {device} cannot be used here"):
        qf.load_quantized(own, Masked(), device=device)


def test_an_infinite_scale_is_refused(own: Path, tmp_path: Path) -> None:
    tensors = load_file(own)
    tensors["first.weight_scale"][0] = float("inf")
    save_file(tensors, tmp_path / "file", metadata(own))
    with pytest.raises(ModelError, match=r"not finite: first\.weight_scale"):
        qf.load_quantized(tmp_path / "file", Masked())


def test_buffers_that_share_memory_in_part_are_written_apart(tmp_path: Path) -> None:
    model = Masked()
    model.register_buffer("part", model.mask[1:])
    qf.quantize(model, ROWS, CONFIG)
    qf.save_quantized(model, tmp_path / "file")
    skeleton = Masked()
    skeleton.register_buffer("part", torch.zeros(7))
    assert torch.equal(qf.load_quantized(tmp_path / "file", skeleton).part, model.part)


def test_a_state_that_omits_tensors_is_refused(tmp_path: Path) -> None:
    model = Masked()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])

    def omit(module: nn.Module, state: dict[str, Any], prefix: str, local: Any) -> None:
        del state["second.weight"]

    model._register_state_dict_hook(omit)
    with pytest.raises(ModelError, match=r"omits or renames some of its tensors: second\.weight"):
        qf.save_quantized(model, tmp_path / "file")


@pytest.mark.parametrize("tied", ["first", "second"])
def test_an_infinite_weight_is_refused_under_every_name_of_a_tied_one(tied: str, tmp_path: Path) -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        layers = {"first": nn.Linear(8, 8), "second": nn.Linear(8, 8), "third": nn.Linear(8, 8)}
        layers["second"].weight = layers["first"].weight
        return nn.Sequential(OrderedDict(layers)).eval()

    quantized = model()
    qf.quantize(quantized, ROWS, CONFIG, include=["third"])
    qf.save_quantized(quantized, tmp_path / "file")
    tensors = load_file(tmp_path / "file")
    tensors[f"{tied}.weight"][0, 0] = float("inf")
    save_file(tensors, tmp_path / "broken", metadata(tmp_path / "file"))
    with pytest.raises(ModelError, match=rf"not finite: {tied}\.weight"):
        qf.load_quantized(tmp_path / "broken", model())


def test_blocks_in_torchs_checkpoint_wrapper_are_kept_under_the_names_of_their_state(tmp_path: Path) -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(8, 8), checkpoint_wrapper(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)))
        ).eval()

    quantized = model()
    qf.quantize(quantized, ROWS, CONFIG, exclude=["1"])
    qf.save_quantized(quantized, tmp_path / "file")
    assert "1.0.weight" in load_file(tmp_path / "file")
    with torch.no_grad():
        assert torch.equal(qf.load_quantized(tmp_path / "file", model())(ROWS[0]), quantized(ROWS[0]))
        quantized[1][0].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"not finite as they are: 1\.0\.weight"):
        qf.save_quantized(quantized, tmp_path / "file")


def test_a_state_whose_hook_copies_its_tensors_is_kept_and_checked(tmp_path: Path) -> None:
    def copied(module: nn.Module, state: dict[str, torch.Tensor], *_: Any) -> None:
        state.update({name: tensor.clone() for name, tensor in state.items()})

    model = Masked()
    model._register_state_dict_hook(copied)
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    qf.save_quantized(model, tmp_path / "file")
    with torch.no_grad():
        assert torch.equal(qf.load_quantized(tmp_path / "file", Masked())(ROWS[0]), model(ROWS[0]))
        model.second.weight[0, 0] = torch.inf
    with pytest.raises(ModelError, match=r"not finite as they are: second\.weight"):
        qf.save_quantized(model, tmp_path / "file")


def test_a_model_whose_weights_are_elsewhere_is_refused(own: Path, tmp_path: Path) -> None:
    model = qf.load_quantized(own, Masked()).to("meta")
    with pytest.raises(ModelError, match="on the meta device, as offloading leaves them"):
        qf.save_quantized(model, tmp_path / "file")
    assert not (tmp_path / "file").exists()
