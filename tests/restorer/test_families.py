"""Another architecture of restorers is a class and a line: it is saved, loaded, restored with and quantized."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import ModelError, UsageError
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.nn.swap import quant_layers
from quantface_core.options import RestoreOptions
from quantface_core.pipelines.models import load_file, one_step
from quantface_core.pipelines.quantize import QuantizeRequest, quantize
from quantface_core.pipelines.restore_picture import PictureRequest, restore_picture
from quantface_core.restorer import RestorerModel
from quantface_core.restorer.families import FAMILIES, Family, register_restorer
from quantface_core.types import Bits, Face, RestorerQuantConfig


@dataclass(frozen=True)
class PlainConfig:
    name: str
    image_size: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class WiderConfig(PlainConfig):
    width: int = 16


class PlainRestorer(RestorerModel):
    """Three convolutions."""

    family = "plain"
    edge_layers = ("first",)

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.ModuleDict({"first": nn.Conv2d(3, 16, 3, padding=1), "second": nn.Conv2d(16, 16, 3, padding=1)})
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, image: Tensor, seeds: Any = None) -> Tensor:
        x = self.body["second"](self.body["first"](image.to(self.dtype)).relu()).relu()
        return (image + self.head(x)).float().clamp(-1, 1)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FAMILIES, "plain", Family(lambda table: PlainConfig(**table), PlainRestorer))
    torch.manual_seed(0)
    save_restorer(PlainRestorer(PlainConfig("mine", 64)), tmp_path / "mine.safetensors", torch.float32)
    return tmp_path / "mine.safetensors"


def test_a_new_family_s_file_restores_a_photo(path: Path) -> None:
    restorer = load_restorer(path)
    assert isinstance(restorer, PlainRestorer)
    photo = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    eyes_and_mouth = ((35.0, 40.0), (61.0, 40.0), (48.0, 52.0), (38.0, 66.0), (58.0, 66.0))
    face = Face((24.0, 24.0, 48.0, 48.0), eyes_and_mouth, 1.0)
    result = restore_picture(PictureRequest(photo, restorer, [face], RestoreOptions(strength=1.0)))
    assert [face.position for face in result.restored] == [0]
    assert (result.pixels != photo).any()


def test_a_new_family_is_quantized_and_saved(path: Path, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    request = QuantizeRequest(
        load_file("mine", path, torch.device("cpu")),
        images,
        RestorerQuantConfig(4, 4, rank=0),
        output=tmp_path / "low.safetensors",
    )
    low = quantize(request).model.restorer
    bits = {name: layer.format.bits for name, layer in quant_layers(low).items()}
    assert bits == {"body.first": Bits(8, 8), "body.second": Bits(4, 4), "head": Bits(4, 4)}
    again = load_restorer(tmp_path / "low.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(images), low(images))


def test_training_by_blocks_is_refused_without_latents(path: Path) -> None:
    with pytest.raises(UsageError, match="of the family plain, but this needs a one-step one"):
        one_step(load_file("mine", path, torch.device("cpu")))


def test_a_family_of_another_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "plain")
    with pytest.raises(ModelError, match=r"mine\.safetensors: .*family 'plain', this version knows one-step"):
        load_restorer(path)


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> dict[str, Family]:
    """Families that a test may add to."""
    monkeypatch.setattr("quantface_core.restorer.families.FAMILIES", registered := dict(FAMILIES))
    return registered


def test_another_package_registers_its_own(families: dict[str, Family], tmp_path: Path) -> None:
    register_restorer(PlainRestorer, lambda table: PlainConfig(**table))
    save_restorer(PlainRestorer(PlainConfig("mine", 64)), tmp_path / "mine.safetensors")
    assert load_restorer(tmp_path / "mine.safetensors").config == PlainConfig("mine", 64)
    del families["plain"]
    with pytest.raises(ModelError, match=r"unknown restorer family 'plain'.* call register_restorer first"):
        load_restorer(tmp_path / "mine.safetensors")


@pytest.mark.usefixtures("families")
def test_a_cell_that_runs_again_replaces_its_restorer(tmp_path: Path) -> None:
    cell = """
class Mine(PlainRestorer):
    family = "mine"

register_restorer(Mine, lambda table: PlainConfig(**table))
"""
    notebook = {**globals(), "__name__": "__main__"}
    for _ in range(2):
        exec(cell, notebook)
    save_restorer(notebook["Mine"](PlainConfig("mine", 64)), tmp_path / "mine.safetensors")
    assert type(load_restorer(tmp_path / "mine.safetensors")) is notebook["Mine"]
    with pytest.raises(UsageError, match=r"'mine' is of __main__\.Mine: give that of other\.Mine another name"):
        exec(cell, {**notebook, "__name__": "other"})


@pytest.mark.parametrize(
    ("model", "read_config", "message"),
    [
        (nn.Conv2d, dict, "derives from .*RestorerModel"),
        (PlainRestorer(PlainConfig("mine", 64)), dict, "derives from .*RestorerModel"),
        (type("Nameless", (RestorerModel,), {}), dict, "Nameless has no family"),
        (
            type("Taken", (RestorerModel,), {"family": "one-step"}),
            dict,
            r"'one-step' is of quantface_core\.restorer\.one_step\.OneStepRestorer: give that of .*\.Taken another",
        ),
        (PlainRestorer, PlainConfig("mine", 64), "read_config is a function"),
    ],
)
@pytest.mark.usefixtures("families")
def test_what_is_no_restorer_is_not_registered(model: Any, read_config: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        register_restorer(model, read_config)


def test_a_configuration_that_its_family_cannot_read_is_the_file_s_error(path: Path) -> None:
    restorer = load_restorer(path)
    save_restorer(restorer, path, config=WiderConfig("mine", 64))
    with pytest.raises(ModelError, match=r"mine\.safetensors: cannot build the network .*'width'"):
        load_restorer(path)


def test_a_configuration_that_json_cannot_hold_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="to_dict of a plain configuration returns what JSON cannot hold: Object of type"
    ):
        save_restorer(load_restorer(path), tmp_path / "new.safetensors", config=PlainConfig(tmp_path, 64))  # type: ignore[arg-type]
    assert not (tmp_path / "new.safetensors").exists()
