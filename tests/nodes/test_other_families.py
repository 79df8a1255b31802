"""Face restorers that other packs' users have: listed, loaded, quantized, saved and loaded again by the nodes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.published import FILES


@pytest.fixture
def photo(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut[:400, 60:460].astype(np.float32) / 255)[None]


@pytest.fixture
def folder(host: SimpleNamespace, published: Path) -> Path:
    """The other packs' folder, with what else lies in it."""
    path: Path = host.models / "facerestore_models"
    path.mkdir()
    for name in FILES.values():
        (path / name).symlink_to(published / name)
    (path / "GPEN-BFR-512.onnx").write_bytes(b"\x08\x06")
    torch.save({"weight": torch.zeros(1)}, path / "parsing_parsenet.pth")
    return path


def options(nodes: dict[str, Any]) -> list[str]:
    listed: list[str] = nodes["QuantFace_LoadModel"].define_schema().inputs[0].options["options"]
    return listed


def test_they_are_listed_without_a_setting(folder: Path, nodes: dict[str, Any]) -> None:
    names = [name for name in options(nodes) if name.startswith("facerestore_models/")]
    assert names == [f"facerestore_models/{name}" for name in sorted(FILES.values())]
    loader = nodes["QuantFace_LoadModel"]
    assert all(loader.validate_inputs(model=name) is True for name in names)
    assert len({loader.fingerprint_inputs(model=name) for name in names}) == 3
    gone = "facerestore_models/gone.pth"
    assert "gone.pth is not in models/facerestore_models:" in loader.validate_inputs(model=gone)
    assert "gone.pth is not in models/quantface:" in loader.validate_inputs(model="gone.pth")


@pytest.mark.usefixtures("folder")
def test_the_page_is_told_which_models_have_a_fidelity(nodes: dict[str, Any]) -> None:
    told = nodes["QuantFace_LoadModel"].define_schema().inputs[0].extra_dict["fidelity"]
    assert told == [f"facerestore_models/{FILES['CodeFormer']}"]


def test_they_are_found_in_our_own_folder_too(host: SimpleNamespace, nodes: dict[str, Any], published: Path) -> None:
    (host.models / "quantface" / "mine.pth").symlink_to(published / FILES["GFPGAN"])
    torch.save({"weight": torch.zeros(1)}, host.models / "quantface" / "other.pth")
    assert "mine.pth" in options(nodes)
    assert "other.pth" not in options(nodes)


@pytest.mark.usefixtures("folder", "models_dir")
@pytest.mark.parametrize("name", FILES.values())
def test_a_face_is_restored(nodes: dict[str, Any], load: Any, photo: torch.Tensor, name: str) -> None:
    model = load(f"facerestore_models/{name}")
    node = nodes["QuantFace_RestoreFace"]
    usual = {i.id: i.options["default"] for i in node.define_schema().inputs if "default" in i.options}
    usual |= {"faces": "all", "order": "left-to-right", "color": "wavelet", "upscale": "1", "blend": "strength"}

    def restored(**changes: Any) -> torch.Tensor:
        picture: torch.Tensor = node.execute(fr_model=model, image=photo, **{**usual, **changes}).args[0]
        return picture

    first = restored()
    assert 0.01 < float((first - photo).abs().amax(-1).gt(0).float().mean()) < 0.6
    assert torch.equal(first, restored(fidelity=1.0)) == (name != "codeformer.pth")


@pytest.mark.usefixtures("folder")
def test_low_bits_are_saved_and_need_no_original(
    nodes: dict[str, Any], load: Any, folder: Path, host: SimpleNamespace
) -> None:
    model = load("facerestore_models/GFPGANv1.4.pth")
    faces = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    node = nodes["QuantFace_CalibrateBalance"]
    given = {"folder": "", "count": 1, "find_faces": False, "degrade": False, "unet_only": False, "seed": 0}
    low = node.execute(fr_model=model, faces=faces, bits="w4a4", rank=2, **given).args[0]
    nodes["QuantFace_SaveModel"].execute(fr_model=low, name="gfpgan-w4a4", overwrite=False)
    for path in folder.iterdir():
        path.unlink()
    loader = nodes["QuantFace_LoadModel"]
    again = loader.execute(model="gfpgan-w4a4.safetensors", precision="float32", backend="auto").args[0]
    face = faces.movedim(-1, 1) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again.restorer(face), low.restorer(face))
