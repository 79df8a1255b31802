"""What the tests share: the real data beside the project, and a restorer small enough to be instant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # its kernels then run on the CPU; read when others import it

os.environ["PYTHON_COLORS"] = "0"  # from Python 3.14 on, FORCE_COLOR would colour the texts that tests compare

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Side by side, threads that wait for each other's cores would take many times as long.
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of processes that tests start
    torch.set_num_threads(threads)

from quantface_core.faces.detect import FaceDetector
from quantface_core.io.checkpoint import load_restorer
from quantface_core.io.models import restorer_path
from quantface_core.io.photos import read_photo
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer
from quantface_core.types import RestorerQuantConfig
from tests.published import ARCHITECTURES, network, slim, write

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {Path('../shared', *parts)} beside the project")
    return path


@pytest.fixture(scope="session")
def photos() -> Path:
    return _shared("photos")


@pytest.fixture(scope="session")
def test_faces() -> list[Path]:
    return sorted(_shared("faces", "test").glob("*.jpg"))


@pytest.fixture(scope="session")
def train_faces() -> Path:
    return _shared("faces", "train")


@pytest.fixture
def models_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared models folder, as a user's would be set."""
    path = _shared("models")
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector(_shared("models", "face_detection_yunet_2023mar.onnx"))


@pytest.fixture(scope="session")
def mini() -> OneStepRestorer:
    return load_restorer(restorer_path("quantface-mini"))


@pytest.fixture(scope="session")
def astronaut(photos: Path) -> np.ndarray:
    return read_photo(photos / "nasa_astronaut.png").pixels


TINY = replace(
    QUANTFACE_MINI,
    name="tiny",
    timestep=399,
    image_size=64,
    unet={
        **QUANTFACE_MINI.unet,
        "sample_size": 16,
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (1, 2),
    },
    vae={**QUANTFACE_MINI.vae, "block_out_channels": (16, 16, 16), "norm_num_groups": 8, "scaling_factor": 0.5},
    embedder=replace(
        QUANTFACE_MINI.embedder, image_size=32, channel_multipliers=(1, 1), attention_resolution=16, tokens=8, codes=16
    ),
)


FAST = RestorerQuantConfig(rank=4, scaling=False, clipping=False, rounding="nearest", branch="svd")
"""For tests that need low-bit layers, whatever their quality: without searches."""


@pytest.fixture(scope="session")
def tiny() -> OneStepRestorer:
    """Every class of the pipeline at its narrowest, with seeded random weights."""
    torch.manual_seed(0)
    restorer = OneStepRestorer(TINY).eval().requires_grad_(False)
    for path in restorer.paths:  # fresh ones are zero
        torch.nn.init.normal_(path.expand.weight, std=0.05)
    return restorer


@pytest.fixture(scope="session")
def recognizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for SFace: an ONNX file that OpenCV runs, whose identity of a face is 4x4 averages of its crop."""
    path = tmp_path_factory.mktemp("recognizer") / "face_recognition_sface_2021dec.onnx"
    path.write_bytes(_averaging_network())
    return path


def _averaging_network() -> bytes:
    """ONNX by hand (protobuf's wire format): AveragePool of 28x28, then Flatten, on [1, 3, 112, 112]."""

    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    def number(field: int, value: int) -> bytes:
        return varint(field << 3) + varint(value)

    def part(field: int, content: bytes | str) -> bytes:
        content = content.encode() if isinstance(content, str) else content
        return varint(field << 3 | 2) + varint(len(content)) + content

    def value(name: str, *shape: int) -> bytes:
        dims = b"".join(part(1, number(1, side)) for side in shape)
        return part(1, name) + part(2, part(1, number(1, 1) + part(2, dims)))

    def pair(name: str, side: int) -> bytes:
        return part(5, part(1, name) + number(8, side) * 2 + number(20, 7))

    pool = part(1, "data") + part(2, "pooled") + part(4, "AveragePool") + pair("kernel_shape", 28) + pair("strides", 28)
    flatten = part(1, "pooled") + part(2, "identity") + part(4, "Flatten")
    ends = part(11, value("data", 1, 3, 112, 112)) + part(12, value("identity", 1, 48))
    graph = part(1, pool) + part(1, flatten) + part(2, "standin") + ends
    return number(1, 8) + part(8, part(1, "") + number(2, 13)) + part(7, graph)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of GFPGAN's, RestoreFormer's and CodeFormer's files, narrow; spandrel's classes are so meanwhile."""
    with slim():
        path = tmp_path_factory.mktemp("published")
        for architecture in ARCHITECTURES:
            write(network(architecture), architecture, path)
        yield path
