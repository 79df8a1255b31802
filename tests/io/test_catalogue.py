from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.errors import ConfigError
from quantface_core.io.catalogue import catalogue
from quantface_core.io.models import restorer_path
from tests.io.local_hub import LocalHub

ENTRY = """
[restorers.mine]
file = "mine.safetensors"
repo = "me/mine"
path = "folder/model.safetensors"
licence = "MIT"
"""
BUILT = """
[restorers.mine]
file = "mine.safetensors"
licence = "MIT"
[restorers.mine.originals.{}]
repo = "a/b"
paths = ["model.safetensors"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("QUANTFACE_CATALOGUE", str(tmp_path / "own.toml"))
    return tmp_path / "own.toml"


def test_users_add_their_own_models(own: Path, hub: LocalHub) -> None:
    own.write_text(ENTRY)
    hub.files["me/mine/folder/model.safetensors"] = b"weights"
    assert catalogue()["restorers"]["mine"].kind == "fetch"
    assert "quantface-mini" in catalogue()["restorers"]
    assert restorer_path("mine").read_bytes() == b"weights"


def test_the_models_folder_s_catalogue_comes_first_and_the_named_one_last(own: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "catalogue.toml").write_text(ENTRY + ENTRY.replace("mine", "other"))
    own.write_text(ENTRY.replace("MIT", "BSD"))
    known = catalogue()["restorers"]
    assert (known["mine"].licence, known["other"].licence) == ("BSD", "MIT")


def test_a_model_named_by_file_needs_no_catalogue(own: Path, tmp_path: Path) -> None:
    own.write_text("= broken")
    (tmp_path / "model.safetensors").touch()
    assert restorer_path(str(tmp_path / "model.safetensors")) == tmp_path / "model.safetensors"
    with pytest.raises(ConfigError, match="cannot read the catalogue"):
        restorer_path("quantface-mini")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= broken", "cannot read the catalogue"),
        ("[models.x]", "models: unknown section; sections are"),
        ("[restorers]\nmine = 3", "mine: expected a table of"),
        ("[[restorers]]", "restorers: expected a table of models"),
        ("restorers = 3", "restorers: expected a table of models"),
        ('[restorers.mine]\nfile = "a.safetensors"\noriginals = ["a"]', r"mine\.originals: expected a table of files"),
        (ENTRY.replace("[restorers.mine]", '[restorers.".."]'), r"'\.\.': expected a plain name"),
        (BUILT.format("unet").replace('["model.safetensors"]', "[]"), r"originals\.unet\.paths: give at least one"),
        (
            BUILT.format("unet").replace('["model.safetensors"]', "[1]"),
            r"unet\.paths: expected a list of strings",
        ),
        (ENTRY + "colour = 'red'", r"mine\.colour: unknown field; known are"),
        (ENTRY.replace('"me/mine"', "3"), r"mine\.repo: expected str, got 3"),
        (ENTRY.replace('"mine.safetensors"', '"../mine.safetensors"'), r"mine\.file: expected a plain file name"),
        (ENTRY.replace('repo = "me/mine"', ""), "exactly one of"),
        (ENTRY + "sha256 = 'abc'", r"mine\.sha256: expected 64 hexadecimal digits"),
        (ENTRY.replace('licence = "MIT"', ""), "licence"),
        (ENTRY.replace('repo = "me/mine"', "[restorers.mine.originals.unet]\nrepo = 'a/b'"), r"unet\.path: unknown"),
        (BUILT.format("unet"), r"mine\.originals\.vae: missing; a model is built from unet, vae, embedder"),
        (BUILT.format("text_encoder"), r"mine\.originals\.text_encoder: unknown field; known are embedder"),
    ],
)
def test_a_broken_catalogue_names_file_and_field(own: Path, text: str, message: str) -> None:
    own.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        catalogue()
    assert str(own) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_catalogue(own: Path) -> None:
    own.write_text(ENTRY.lstrip(), "utf-8-sig")
    assert catalogue()["restorers"]["mine"].licence == "MIT"


def test_a_named_catalogue_that_is_missing_is_told(own: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the catalogue"):
        catalogue()
