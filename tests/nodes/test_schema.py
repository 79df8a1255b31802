"""The schemas of all nodes, and that bad input is named, by whatever way it comes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch


def test_every_node_is_named_and_explained(nodes: dict[str, Any]) -> None:
    for node in nodes.values():
        schema = node.define_schema()
        assert schema.category == "QuantFace"
        assert schema.display_name
        assert schema.description
        for i in schema.inputs:
            assert i.options.get("tooltip") or node.__name__ == "SaveModel", f"{node.__name__}.{i.id}"


def test_ids_of_inputs_and_outputs_differ(nodes: dict[str, Any]) -> None:
    """ComfyUI 0.3.64 registers no node of a pack in which they do not."""
    for node in nodes.values():
        schema = node.define_schema()
        ids = [socket.id for socket in (*schema.inputs, *schema.outputs)]
        assert len(ids) == len(set(ids)), node.__name__


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RestoreFace", "portrait deblur denoise sharpen gfpgan codeformer restoreformer 人脸 老照片"),
        ("CropFaces", "bbox segs face 人脸"),
        ("PasteFaces", "uncrop stitch face"),
        ("RepairScratches", "scratch old dust inpaint 老照片 划痕"),
    ],
)
def test_the_page_s_search_finds_a_node_by_other_packs_words(nodes: dict[str, Any], name: str, words: str) -> None:
    aliases = nodes[f"QuantFace_{name}"].define_schema().search_aliases
    assert all(any(alias.startswith(word) for alias in aliases) for word in words.split())  # as it compares Chinese


def test_no_seed_changes_by_itself(nodes: dict[str, Any]) -> None:
    """The page would draw a new one after every run, and minutes of training would be done again."""
    for node in nodes.values():
        for i in node.define_schema().inputs:
            if i.id == "seed":
                assert i.options["control_after_generate"] is False


def test_the_seed_of_a_sampler_can_be_typed(nodes: dict[str, Any]) -> None:
    for name in ("QuantFace_RestoreFace", "QuantFace_RestoreVideo"):
        (seed,) = (i for i in nodes[name].define_schema().inputs if i.id == "seed")
        assert seed.options["max"] == 2**53 - 1  # the last whole number that JavaScript tells from the next


def test_each_node_s_checks_mark_what_they_are_about(nodes: dict[str, Any]) -> None:
    """The host repeats what a check says at every input that the check takes."""
    for node in nodes.values():
        if check := getattr(node, "validate_inputs", None):
            taken = list(inspect.signature(check).parameters)
            assert len(taken) == 1 or taken == ["faces", "positions"]


def test_bad_input_is_named(nodes: dict[str, Any], restore: Any) -> None:
    node, loader, save = (nodes[f"QuantFace_{n}"] for n in ("RestoreFace", "LoadModel", "SaveModel"))
    for fine in ("0, 2", "0,2,", "0-3", None):
        assert node.validate_inputs("positions", fine) is True
    assert "whole numbers" in node.validate_inputs("positions", "x")
    assert "at least one" in node.validate_inputs("positions", "")
    assert "faces 'everyone': one of all" in node.validate_inputs("everyone", "0")
    assert "not in models/quantface" in loader.validate_inputs(model="gone.safetensors")
    assert "letters" in save.validate_inputs(name="../../evil")
    assert "another model" in save.validate_inputs(name="quantface-mini")
    assert "3 is not in models/quantface" in loader.validate_inputs(model=3)  # JSON may hold anything
    with pytest.raises(Exception, match="model: choose one"):
        loader.execute(model=None, precision="auto", backend="auto")
    with pytest.raises(Exception, match="precision 'fp16': one of auto"):  # as another node may give it
        loader.execute(model="quantface-mini", precision="fp16", backend="auto")
    assert loader.fingerprint_inputs(model=None) == loader.fingerprint_inputs()  # given by another node
    for name in ("CalibrateBalance", "QDLoRADistill", "CompareModels"):
        assert "no such folder" in nodes[f"QuantFace_{name}"].validate_inputs(folder="nowhere")
        assert nodes[f"QuantFace_{name}"].validate_inputs(folder=None) is True  # given by another node
    assert "limits" in nodes["QuantFace_AllocateBits"].validate_inputs(limits="vae.decoder=9")
    with pytest.raises(Exception, match="NaN"):
        restore(torch.full((1, 64, 64, 3), float("nan")))


@pytest.mark.parametrize("name", ["RestoreFace", "RestoreVideo", "CropFaces"])
@pytest.mark.parametrize("faces", ["all", "largest", None])
def test_positions_that_are_not_used_may_be_wrong(nodes: dict[str, Any], name: str, faces: str | None) -> None:
    """The page hides them: nobody would see what blocks the run."""
    for unused in ("first", "", "3-1"):
        assert nodes[f"QuantFace_{name}"].validate_inputs(faces, unused) is True


def test_what_other_nodes_give_is_checked_too(nodes: dict[str, Any], load: Any, restore: Any) -> None:
    """The host validates typed values alone; a name from another node must not leave the models folder."""
    save = nodes["QuantFace_SaveModel"]
    for name in ("../../evil", "/tmp/evil", ""):
        with pytest.raises(Exception, match="letters"):
            save.execute(load(), name=name, overwrite=True)
    with pytest.raises(Exception, match="whole numbers"):
        restore(torch.zeros(1, 64, 64, 3), faces="positions", positions="1, x")
    with pytest.raises(Exception, match="faces 'everyone': one of all, largest, positions"):
        restore(torch.zeros(1, 64, 64, 3), faces="everyone")
    some = {"folder": "nowhere", "count": 1, "find_faces": False, "degrade": False}
    with pytest.raises(Exception, match="no such folder"):
        nodes["QuantFace_CompareModels"].execute(load(), load(), **some)
