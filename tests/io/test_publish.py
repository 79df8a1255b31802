from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from quantface_core.cli.main import main
from quantface_core.errors import ModelError, UsageError
from quantface_core.io.catalogue import Remote
from quantface_core.io.checkpoint import save_restorer
from quantface_core.io.checksum import sha256
from quantface_core.io.hub import fetch
from quantface_core.io.publish import card, publish
from quantface_core.quant.quantize import quantize
from quantface_core.restorer import OneStepRestorer
from quantface_core.types import QuantConfig
from tests.io.local_hub import Fault, LocalHub
from tests.published import FILES


def saved(tiny: OneStepRestorer, path: Path, licence: str) -> Path:
    save_restorer(tiny, path, torch.float16, notes={"licence": licence, "recipe": "tiny"} if licence else None)
    return path


def test_published_and_fetched_again(
    hub: LocalHub, tiny: OneStepRestorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tiny, tmp_path / "tiny.safetensors", "Apache-2.0")
    with pytest.MonkeyPatch.context() as patch:
        # Before 1.0 the client takes an uploaded file's address apart by the endpoint it was imported with.
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        assert main(["publish", str(path), "--repo", "me/tiny"]) == 0
    assert capsys.readouterr().out.strip() == f"{hub.url}/me/tiny"
    readme = hub.files["me/tiny/README.md"].decode()
    assert "license: apache-2.0" in readme
    assert sha256(path) in readme
    assert "granted by that licence" in readme
    again = fetch(Remote("me/tiny", ("tiny.safetensors",)), tmp_path / "again.safetensors", print)
    assert again.read_bytes() == path.read_bytes()


def test_a_file_for_a_private_repository_never_lands_in_a_public_one(
    hub: LocalHub, tiny: OneStepRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    path = saved(tiny, tmp_path / "tiny.safetensors", "Apache-2.0")
    publish(path, "me/secret", "card", private=True)
    assert hub.private == {"me/secret"}
    hub.created.add("me/public")
    with pytest.raises(UsageError, match="me/public exists and is public"):
        publish(path, "me/public", "card", private=True)
    assert "me/public/tiny.safetensors" not in hub.files


def test_a_card_stays_if_asked_and_one_that_the_hub_refuses_is_told(
    hub: LocalHub, tiny: OneStepRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    path = saved(tiny, tmp_path / "tiny.safetensors", "Apache-2.0")
    hub.files["me/tiny/README.md"] = b"written by hand"
    assert main(["publish", str(path), "--repo", "me/tiny", "--keep-card"]) == 0
    assert hub.files["me/tiny/README.md"] == b"written by hand"
    hub.card_errors = ['"license" must be one of [apache-2.0, mit]']
    with pytest.raises(UsageError, match=r'name a licence that it knows.*"license" must be one of'):
        publish(path, "me/other", "card")
    assert "me/other/tiny.safetensors" not in hub.files


def test_the_card_of_a_low_bit_model_counts_its_layers(tmp_path: Path) -> None:
    from quantface_core.io.models import restorer_path

    (tmp_path / "table.md").write_text("| model | psnr |")
    text = card(restorer_path("quantface-mini-w4a4"), "me/mini", "apache-2.0", may_share=True, evaluation=tmp_path)
    assert "## Evaluation\n\n| model | psnr |\n\n## Use" in text
    assert "| unet, w3a3 | " in text
    assert "| file | 12." in text
    assert "A low-bit version" in text
    assert "| embedder, w5a3 | 1 layer |" in text
    assert "the part of each weight that the image depends on most,\nand the rest of the weights" in text


def test_the_card_says_how_the_file_was_made(tiny: OneStepRestorer, tmp_path: Path) -> None:
    def described(rank: int, notes: dict[str, str]) -> str:
        restorer = copy.deepcopy(tiny)
        quantize(restorer, [torch.zeros(1, 3, 64, 64)], QuantConfig(rank=rank, branch="svd"), include=["vae.decoder"])
        save_restorer(restorer, path := tmp_path / "low.safetensors", notes={"licence": "mit", **notes})
        return card(path, "me/low", None, may_share=False).split("| | |")[0]

    assert "keeps the largest part of each weight,\nand the rest" in described(2, {"settings": '{"branch": "svd"}'})
    assert "keeps a part of each weight,\nand the rest" in described(2, {})
    assert "channels are scaled and rotated,\nand weights and activations are quantized." in described(0, {})
    with pytest.raises(ModelError, match="its note on settings is not JSON"):
        described(2, {"settings": "{"})
    path = saved(tiny, tmp_path / "full.safetensors", "mit")
    assert "(64 x 64 pixels).\n" in card(path, "me/full", None, may_share=False)


@pytest.mark.parametrize("licence", ["", "not stated by OSDFace's authors"])
def test_nothing_without_a_licence_is_published_without_a_word(
    tiny: OneStepRestorer, tmp_path: Path, licence: str
) -> None:
    path = saved(tiny, tmp_path / "tiny.safetensors", licence)
    with pytest.raises(UsageError, match="which you state by may_share: ask the authors"):
        card(path, "me/tiny", "mit", may_share=False)
    with pytest.raises(UsageError, match="name one to publish it under"):
        card(path, "me/tiny", None, may_share=True)
    assert "claimed by the publisher" in card(path, "me/tiny", "mit", may_share=True)


def test_no_restorer_and_no_repository_name_are_refused(tiny: OneStepRestorer, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError):
        card(tmp_path / "x.safetensors", "me/x", "mit", may_share=True)
    with pytest.raises(UsageError, match="USER/NAME"):
        card(tmp_path / "x.safetensors", "x", "mit", may_share=True)
    path = saved(tiny, tmp_path / "tiny.safetensors", "Apache-2.0")
    with pytest.raises(UsageError, match=r"no table\.md there"):
        card(path, "me/x", None, may_share=False, evaluation=tmp_path)


@pytest.mark.parametrize(("status", "message"), [(401, "denies access"), (500, "has a problem")])
def test_the_hub_s_refusal_is_told(
    hub: LocalHub, tiny: OneStepRestorer, tmp_path: Path, status: int, message: str
) -> None:
    hub.fault = Fault(status=status)
    path = saved(tiny, tmp_path / "tiny.safetensors", "Apache-2.0")
    with pytest.raises(ModelError, match=message):
        publish(path, "me/tiny", "card")
    assert hub.files == {}


def test_a_published_file_notes_nothing(published: Path) -> None:
    with pytest.raises(UsageError, match="licence is: not noted"):
        card(published / FILES["GFPGAN"], "me/x", "mit", may_share=False)
