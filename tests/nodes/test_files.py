"""What goes with the nodes: help pages, locales, workflows, the blueprint, the page's scripts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IDS = {
    f"QuantFace_{n}"
    for n in (
        "LoadModel", "RestoreFace", "RestoreVideo", "RepairScratches", "CropFaces", "PasteFaces",
        "AllocateBits", "CalibrateBalance", "QDLoRADistill", "SaveModel", "CompareModels",
    )
}  # fmt: skip
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
_SLOT = 20  # pixels from one socket of a node to the next


def test_ids_are_stable(nodes: dict[str, Any]) -> None:
    assert set(nodes) == IDS


def test_one_folder_alone_is_taken_for_templates() -> None:
    """The host serves the first that there is of these under one address, and nothing of the others."""
    names = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in names if (ROOT / name).exists()] == ["workflows"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_locales_name_every_input_and_output(nodes: dict[str, Any], language: str) -> None:
    defs = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    assert set(defs) == IDS
    for node_id, node in nodes.items():
        schema, texts = node.define_schema(), defs[node_id]
        assert list(texts["inputs"]) == [i.id for i in schema.inputs]
        assert set(texts["outputs"]) == {str(i) for i in range(len(schema.outputs))}
        assert all(output.options["tooltip"] for output in schema.outputs)
        if language == "en":
            assert (texts["display_name"], texts["description"]) == (schema.display_name, schema.description)
        else:
            for i in schema.inputs:
                assert bool(texts["inputs"][i.id].get("tooltip")) == bool(i.options.get("tooltip"))
            assert all(output["tooltip"] for output in texts["outputs"].values())


def test_types_are_translated_as_outputs_of_their_name_are(nodes: dict[str, Any]) -> None:
    """The page takes the names of such outputs from the types'."""
    folder = ROOT / "locales" / "zh"
    defs, types = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("nodeDefs", "main"))
    own = {
        socket.io_type: defs[node_id]["outputs"][str(number)]["name"]
        for node_id, node in nodes.items()
        for number, socket in enumerate(node.define_schema().outputs)
        if socket.display_name == socket.io_type and socket.io_type != "IMAGE"
    }
    assert types == {"dataTypes": own}
    assert len(own) == 3


def test_every_node_has_a_help_page_that_explains_every_widget(nodes: dict[str, Any]) -> None:
    assert {page.stem for page in (ROOT / "web" / "docs").glob("*.md")} == set(nodes)
    for node_id, node in nodes.items():
        text = (ROOT / "web" / "docs" / f"{node_id}.md").read_text("utf-8")
        assert text.startswith(f"# {node.define_schema().display_name}\n")
        missing = [i.id for i in node.define_schema().inputs if f"**{i.id}**" not in text]
        assert not missing
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
            assert (ROOT / "web" / "docs" / picture).is_file(), picture


def test_every_help_page_is_there_in_chinese_with_the_names_that_the_page_shows(nodes: dict[str, Any]) -> None:
    defs = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))
    docs = ROOT / "web" / "docs"
    for node_id in nodes:
        english = (docs / f"{node_id}.md").read_text("utf-8")
        text = (docs / node_id / "zh.md").read_text("utf-8")  # where the page looks first
        assert text.startswith(f"# {defs[node_id]['display_name']}\n")
        names = [texts["name"] for texts in defs[node_id]["inputs"].values()]
        assert not [name for name in names if f"**{name}**" not in text]
        pictures = [re.findall(r"!\[.*?\]\((.*?)\)", page) for page in (english, text)]
        assert pictures[0] == pictures[1]


def _check_nodes(nodes: dict[str, Any], listed: list[dict[str, Any]]) -> None:
    for node in listed:
        if node["type"] in IDS:
            schema = nodes[node["type"]].define_schema()
            sockets = [i.id for i in schema.inputs if not i.widget]
            widgets = [i for i in schema.inputs if i.widget]
            assert [i["name"] for i in node["inputs"] if "widget" not in i] == sockets
            assert {i["name"] for i in node["inputs"] if "widget" in i} <= {w.id for w in widgets}
            assert [o["name"] for o in node["outputs"]] == [o.display_name for o in schema.outputs]
            assert len(node["widgets_values"]) == len(widgets)
            for value, widget in zip(node["widgets_values"], widgets, strict=True):
                assert value in widget.options.get("options", [value])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflows_fit_the_schemas(nodes: dict[str, Any], path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, socket, kind in workflow["links"]:
        assert number in by_id[source]["outputs"][output]["links"]
        assert by_id[target]["inputs"][socket]["link"] == number
        assert by_id[source]["outputs"][output]["type"] == kind
        assert by_id[target]["inputs"][socket]["type"] in (kind, "*")
    _check_nodes(nodes, workflow["nodes"])
    for model in (m for node in workflow["nodes"] for m in node["properties"].get("models", [])):
        assert set(model) == {"name", "url", "directory"}
        assert model["url"].startswith("https://huggingface.co/")
        assert model["url"].endswith(f"/{model['name']}")


@pytest.mark.parametrize("path", WORKFLOWS[:-1], ids=lambda p: p.stem)  # the last one links its folder to every node
def test_no_level_link_seems_to_end_at_a_node_that_it_passes(path: Path) -> None:
    """Links are drawn behind the nodes between their ends: at the height of a socket, they seem to end there."""
    workflow = json.loads(path.read_text("utf-8"))
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for _, source, output, target, socket, _ in workflow["links"]:
        start, end = by_id[source], by_id[target]
        height = _socket_height(start, output)
        if abs(_socket_height(end, socket) - height) > _SLOT:
            continue
        for passed in workflow["nodes"]:
            if start["pos"][0] < passed["pos"][0] < end["pos"][0]:
                sockets = [number for number, each in enumerate(passed.get("inputs", [])) if "widget" not in each]
                assert all(abs(_socket_height(passed, number) - height) > _SLOT for number in sockets), passed["type"]


def _socket_height(node: dict[str, Any], number: int) -> float:
    """Where the page draws a node's input or output of that number, in pixels from the top."""
    return float(node["pos"][1] + _SLOT * (number + 0.7))


def test_the_workflows_are_there_in_order_with_their_thumbnails() -> None:
    """By name, as the page lists them: their names are their titles."""
    assert [path.stem for path in WORKFLOWS] == [
        "Restore a photo",
        "Restore a video",
        "Restore an old photo",
        "Treat faces by other nodes",
        "Upscale and restore",
        "Your own 4-bit model",
    ]
    for path in WORKFLOWS:
        assert path.with_suffix(".jpg").stat().st_size < 300_000


def test_a_workflow_that_links_its_folder_says_that_new_pictures_are_not_noticed(nodes: dict[str, Any]) -> None:
    """The host does not show a node what another one gives when it asks for changes."""
    for path in WORKFLOWS:
        listed = json.loads(path.read_text("utf-8"))["nodes"]
        if any(i["name"] == "folder" and i["link"] for node in listed for i in node["inputs"]):
            assert any("not noticed" in node["widgets_values"][0] for node in listed if node["type"] == "MarkdownNote")
    folders = [i for node in nodes.values() for i in node.define_schema().inputs if i.id == "folder"]
    assert folders
    assert all("not if another node supplies it" in i.options["tooltip"] for i in folders)


def test_workflows_that_restore_are_apps_too(nodes: dict[str, Any]) -> None:
    """What the page's app mode shows of them: widgets, by node, and the nodes whose results it displays."""
    apps = {path.stem: json.loads(path.read_text("utf-8")) for path in WORKFLOWS}
    apps = {name: workflow for name, workflow in apps.items() if "linearData" in workflow["extra"]}
    assert list(apps) == ["Restore a photo", "Restore a video", "Restore an old photo", "Upscale and restore"]
    for workflow in apps.values():
        kinds = {node["id"]: node["type"] for node in workflow["nodes"]}
        shown = workflow["extra"]["linearData"]
        assert {kinds[node] for node in shown["outputs"]} <= {"SaveImage", "SaveVideo"}
        assert {kinds[node] for node, _ in shown["inputs"]} & {"LoadImage", "LoadVideo"}
        for node, widget in shown["inputs"]:
            if kinds[node] in nodes and widget != "quantface_view":
                assert widget in [i.id for i in nodes[kinds[node]].define_schema().inputs]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda p: p.stem)
def test_blueprints_fit_the_schemas(nodes: dict[str, Any], path: Path) -> None:
    blueprint = json.loads(path.read_text("utf-8"))
    (graph,) = blueprint["definitions"]["subgraphs"]
    assert [node["type"] for node in blueprint["nodes"]] == [graph["id"]]
    assert graph["name"] == path.stem
    assert blueprint["extra"]["BlueprintDescription"] == graph["description"]
    assert "faces" in graph["description"]
    _check_nodes(nodes, graph["nodes"])
    by_id = {node["id"]: node for node in graph["nodes"]}
    for link in graph["links"]:
        for end, slots in (("origin", "outputs"), ("target", "inputs")):
            node = by_id.get(link[f"{end}_id"])
            given = graph["inputs" if end == "origin" else "outputs"] if node is None else node[slots]
            assert given[link[f"{end}_slot"]]["type"] == link["type"]
    shown = blueprint["nodes"][0]["properties"]["proxyWidgets"]
    for node_id, widget in shown:
        assert widget in {i.id for i in nodes[by_id[int(node_id)]["type"]].define_schema().inputs if i.widget}
    fields = [widget for _, widget in shown]
    assert fields.index("blend") == fields.index("strength") - 1  # which alone does nothing while blend is auto


def test_the_page_fetches_nothing_from_elsewhere() -> None:
    for script in (ROOT / "web").rglob("*.js"):
        text = script.read_text("utf-8")
        imports = re.findall(r'from "(.*?)"', text)
        assert all(path.startswith(("./", "../../../scripts/")) for path in imports)
        assert set(re.findall(r"https?://[^\"'`\s]+", text)) <= {"http://www.w3.org/2000/svg"}
