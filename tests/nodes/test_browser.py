"""The pack in ComfyUI's page: templates, the slider, the chart, cancel. Needs COMFYUI_PATH, playwright and a Chromium.

Screenshots, to be looked at, go to the folder that COMFYUI_SHOTS names. COMFYUI_VUE=1 takes Vue nodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.comfyui import ROOT, ComfyUI
from tests.nodes.page import Page, chromium

_PREVIEWS = """() => {
  const { id } = app.graph._nodes.find(({ type }) => /RestoreFace|PasteFaces/.test(type));
  const images = document.querySelectorAll(`[data-node-id="${id}"] img:not(.quantface-slider img)`);
  return images.length + (app.nodePreviewImages[id]?.length ?? 0);
}"""
_RESTORER = "app.graph._nodes.find(({ type }) => type === 'QuantFace_RestoreFace')"
_HEIGHT = f"() => new Promise((told) => setTimeout(() => told({_RESTORER}.size[1]), 1000))"  # once it has settled
_CHECKED = """() => {
  const { changeTracker } = app.extensionManager.workflow.activeWorkflow;
  (changeTracker.captureCanvasState ?? changeTracker.checkState).call(changeTracker);
}"""  # as the page does after a click: what can be undone


@pytest.fixture(scope="module")
def page(server: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if chromium() is None:
        pytest.skip("needs a Chromium: on PATH, or named by CHROMIUM")
    shots = os.environ.get("COMFYUI_SHOTS")
    with driver.sync_playwright() as playwright:
        page = Page(playwright, server, Path(shots) if shots else tmp_path_factory.mktemp("shots"))
        page.set("Comfy.VueNodes.Enabled", bool(os.environ.get("COMFYUI_VUE")))
        yield page
        page.close()


def test_templates_have_titles_and_a_photo_s_is_first(page: Page) -> None:
    page.templates()
    page.shot("templates")
    cards = page.page.locator("[data-testid^='template-workflow-']")
    shown = [card.get_attribute("data-testid").removeprefix("template-workflow-") for card in cards.all()]
    assert shown == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert shown[0] == "Restore a photo"
    page.page.keyboard.press("Escape")


def test_a_restored_video_plays_on_its_node(page: Page) -> None:
    page.template("Restore a video")
    page.run_through()
    page.page.wait_for_timeout(1000)
    page.fit()
    page.shot("Restore a video")
    played = page.page.locator("video").evaluate_all("all => all.map((video) => video.currentSrc || video.innerHTML)")
    assert any("filename=quantface_" in source and "type=temp" in source for source in played)


@pytest.mark.parametrize(
    "name", ["Upscale and restore", "Treat faces by other nodes", "Restore an old photo", "Restore a photo"]
)
def test_a_template_opens_and_runs(page: Page, name: str) -> None:
    page.template(name)
    page.run_through()
    page.fit()
    page.shot(name)
    assert page.page.locator(".quantface-slider img").first.evaluate("image => image.naturalWidth") > 0
    assert page.page.evaluate(_PREVIEWS) == 0  # shown while it ran


def test_the_slider_follows_the_pointer_and_leaves_the_node_alone(page: Page) -> None:
    page.fit("QuantFace_RestoreFace")
    places = "() => app.graph._nodes.map((node) => [node.id, ...node.pos].join()).sort().join(' ')"
    before = page.page.evaluate(places)
    stage = page.page.locator(".quantface-slider [role=slider]")
    box = stage.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=4)
    page.page.mouse.up()
    shown = int(stage.get_attribute("aria-valuenow"))
    assert 60 < shown < 90
    stage.press("ArrowLeft")
    assert int(stage.get_attribute("aria-valuenow")) == shown - 2
    for key, end in (("End", "100"), ("Home", "0")):
        stage.press(key)
        assert stage.get_attribute("aria-valuenow") == end
    assert page.page.evaluate(places) == before
    page.shot("slider")


def test_the_canvas_pans_and_zooms_over_the_slider(page: Page) -> None:
    page.fit("QuantFace_RestoreFace")
    view = "() => [...app.canvas.ds.offset, app.canvas.ds.scale]"
    box = page.page.locator(".quantface-slider [role=slider]").bounding_box()
    mouse, x, y = page.page.mouse, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    left, top, scale = page.page.evaluate(view)
    mouse.move(x, y)
    mouse.down(button="middle")
    mouse.move(x + 60, y + 40, steps=4)
    mouse.up(button="middle")
    page.page.wait_for_timeout(300)
    moved = page.page.evaluate(view)
    assert moved[0] - left > 20
    assert moved[1] - top > 10
    mouse.wheel(0, -120)
    page.page.wait_for_timeout(500)
    assert page.page.evaluate(view)[2] > scale


def test_the_properties_panel_neither_lists_nor_stretches_the_slider(page: Page) -> None:
    panel = page.page.get_by_label("Toggle properties panel").last
    if not panel.count():
        pytest.skip("this page has no such panel")
    page.fit("QuantFace_RestoreFace")
    slider = page.page.locator(".quantface-slider")
    width = slider.bounding_box()["width"]
    page.select("QuantFace_RestoreFace")
    panel.click()
    page.page.get_by_text("Parameters", exact=True).wait_for()
    page.page.wait_for_timeout(1000)
    page.shot("panel")
    assert not page.page.get_by_text("quantface_view").count()
    label = f"() => {_RESTORER}.widgets.find(({{ name }}) => name === 'quantface_view').label"
    assert page.page.evaluate(label) == "comparison"  # in an app made of the workflow, whose inputs may be any widgets
    assert slider.bounding_box()["width"] == pytest.approx(width, abs=1)
    panel.click()


def test_the_slider_keeps_its_pictures_while_another_tab_is_open(page: Page) -> None:
    page.command("Comfy.NewBlankWorkflow")
    assert not page.page.evaluate("() => app.graph._nodes.some((node) => node.type.startsWith('QuantFace_'))")
    page.command("Workspace.PreviousOpenedWorkflow")
    page.fit("QuantFace_RestoreFace")
    page.page.wait_for_timeout(2500)
    page.shot("slider_again")
    assert page.page.locator(".quantface-slider img").first.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("name", ["Restore a video", "Restore an old photo", "Upscale and restore", "Restore a photo"])
def test_a_template_is_an_app_too(page: Page, name: str) -> None:
    page.template(name)
    commands = page.page.evaluate("() => app.extensionManager.command.commands.map(({ id }) => id)")
    if "Comfy.ToggleLinear" not in commands:
        pytest.skip("a page without apps")
    page.command("Comfy.ToggleLinear")
    for skip in page.page.get_by_role("button", name="Skip").all():  # a tour, at the first time
        skip.click()
    page.shot(f"{name} as an app")
    page.page.get_by_text("quantface-mini-w4a4 (bundled)").last.wait_for(timeout=5000)
    if name != "Restore a video":
        assert page.page.get_by_text("comparison", exact=True).count() == 1  # the slider's name
    if name == "Restore an old photo":
        assert page.page.get_by_text("scratches repaired", exact=True).count() == 1
    page.command("Comfy.ToggleLinear")


def test_what_the_user_should_know_is_told_on_the_node(page: Page) -> None:
    page.template("Restore a photo")
    page.connect("LoadImage", "MASK", "QuantFace_RestoreFace", "mask")
    page.run_through()
    page.fit()
    page.shot("notes")
    assert "mask is black all over" in page.page.locator(".quantface-notes").last.inner_text()


def test_of_a_list_it_is_told_once_and_of_which_images(page: Page) -> None:
    page.template("Treat faces by other nodes")
    page.page.evaluate(
        """() => {
          const [load, crop] = ["LoadImage", "QuantFace_CropFaces"].map(
            (type) => app.graph._nodes.find((node) => node.type === type));
          const [empty, batch, list] = ["EmptyImage", "ImageBatch", "RebatchImages"].map((type) => {
            const node = LiteGraph.createNode(type);
            app.graph.add(node);
            return node;
          });
          load.connect(0, batch, 0);
          empty.connect(0, batch, 1);
          batch.connect(0, list, 0);
          list.connect(0, crop, 0);
        }"""
    )
    page.widgets("QuantFace_CropFaces", positions="3")
    page.run_through()
    page.fit()
    page.shot("notes_of_a_list")
    told = [
        "\u26a0 positions 3 has no effect: faces is all",
        "\u26a0 item 2 of 2: no face was found: lower min_confidence, or mark faces with face_mask",
    ]
    assert page.page.locator(".quantface-notes").first.inner_text().splitlines() == told


def test_the_slider_s_pages_are_turned_by_buttons_with_names(page: Page) -> None:
    """For screen readers; of the list that was just run."""
    slider = page.page.locator(".quantface-slider")
    for name, shown in (("next image", "2 / 2"), ("previous image", "1 / 2")):
        slider.get_by_role("button", name=name).click()
        assert slider.get_by_role("status").first.inner_text() == shown


def test_crop_faces_numbers_the_faces_in_one_picture(page: Page) -> None:
    """And notes take room only where there are some."""
    page.template("Treat faces by other nodes")
    page.widgets("LoadImage", image="three.png")
    tall = "() => document.querySelector('.quantface-notes').parentElement.offsetHeight"
    heights = []
    for positions in ("0", "1"):  # which has no effect, and is told from 1 on
        page.widgets("QuantFace_CropFaces", positions=positions)
        page.run_through()
        page.fit("QuantFace_CropFaces")
        page.shot(f"numbered_{positions}")
        heights.append(page.page.evaluate(tall))
    outputs = page.wait(1)["outputs"].values()
    assert [len(output["images"]) for output in outputs if "quantface_notes" in output and "images" in output] == [1]
    assert heights[0] < 30 < heights[1]


def _hidden(page: Page) -> set[str]:
    """Restore Face's widgets that are hidden, once the page has settled."""
    listed = f"""() => new Promise((told) => setTimeout(() => told(
      {_RESTORER}.widgets.filter(({{ options }}) => options?.hidden).map(({{ name }}) => name)), 500))"""
    return set(page.page.evaluate(listed)) & {"strength", "positions", "fidelity"}


def test_widgets_without_effect_are_hidden(page: Page) -> None:
    page.template("Restore a photo")
    assert _hidden(page) == {"strength", "positions", "fidelity"}
    page.widgets("QuantFace_LoadModel", model="facerestore_models/codeformer.pth")
    assert _hidden(page) == {"strength", "positions"}
    disconnected = f"() => {_RESTORER}.disconnectInput({_RESTORER}.findInputSlot('fr_model'))"
    page.page.evaluate(disconnected)  # as where other packs' nodes bring the model without a link
    assert _hidden(page) == {"strength", "positions"}
    page.connect("QuantFace_LoadModel", "FR_MODEL", "QuantFace_RestoreFace", "fr_model")
    page.widgets("QuantFace_RestoreFace", blend="strength", faces="positions")
    assert _hidden(page) == set()
    page.fit("QuantFace_RestoreFace")
    page.shot("all_widgets")
    if os.environ.get("COMFYUI_VUE"):
        drawn = f"() => document.querySelector(`[data-node-id='${{{_RESTORER}.id}}']`).innerText.split('\\n')"
        lines = page.page.evaluate(drawn)
        assert [lines.count(name) for name in ("strength", "positions")] == [2, 2]  # a widget's name, another's value
    page.widgets("QuantFace_LoadModel", model="facerestore_models/GFPGANv1.4.pth")
    page.widgets("QuantFace_RestoreFace", blend="auto", faces="largest")
    assert _hidden(page) == {"strength", "positions", "fidelity"}
    page.page.evaluate(
        f"""() => {{
          const given = LiteGraph.createNode("PrimitiveFloat");
          app.graph.add(given);
          given.connect(0, {_RESTORER}, {_RESTORER}.findInputSlot("strength"));
        }}"""
    )
    assert _hidden(page) == {"positions", "fidelity"}


def test_a_blueprint_shows_what_it_promotes(page: Page) -> None:
    """Though strength has no effect at first: its widget outside is a copy, which nothing would show again."""
    given = json.loads((ROOT / "subgraphs" / "Restore Faces.json").read_text("utf-8"))
    page.page.evaluate("given => app.loadGraphData(given)", given)
    page.page.wait_for_timeout(1000)
    shown = page.page.evaluate(
        """() => app.graph._nodes.find(({ subgraph }) => subgraph)
          .widgets.filter(({ hidden, options }) => !hidden && !options?.hidden).map(({ name }) => name)"""
    )
    assert {"blend", "strength"} <= set(shown)


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "vue"])
def test_a_widget_promoted_while_hidden_shows_outside(page: Page, vue: bool) -> None:
    page.set("Comfy.VueNodes.Enabled", vue)
    page.template("Restore a photo")
    assert "strength" in _hidden(page)
    shown = page.page.evaluate(
        f"""async () => {{
          const settled = () => new Promise((done) => setTimeout(done, 500));
          const {{ node, subgraph }} = app.graph.convertToSubgraph(new Set([{_RESTORER}]));
          await settled();
          const [inner] = subgraph.nodes;
          subgraph.addInput("strength", "FLOAT").connect(inner.inputs[inner.findInputSlot("strength")], inner);
          await settled();
          return node.widgets.filter(({{ hidden, options }}) => !hidden && !options?.hidden).map(({{ name }}) => name);
        }}"""
    )
    page.set("Comfy.VueNodes.Enabled", bool(os.environ.get("COMFYUI_VUE")))
    assert "strength" in shown


def test_a_widget_hidden_before_its_node_moved_into_a_subgraph_shows_there(page: Page) -> None:
    page.set("Comfy.VueNodes.Enabled", True)
    page.template("Restore a photo")
    assert "strength" in _hidden(page)
    drawn = page.page.evaluate(
        f"""async () => {{
          const settled = () => new Promise((done) => setTimeout(done, 1000));
          const {{ node, subgraph }} = app.graph.convertToSubgraph(new Set([{_RESTORER}]));
          app.canvas.openSubgraph(subgraph, node);
          await settled();
          const [inner] = subgraph.nodes, blend = inner.widgets.find(({{ name }}) => name === "blend");
          blend.value = "strength";
          blend.callback("strength");
          await settled();
          return document.querySelector(`[data-node-id="${{inner.id}}"]`)?.innerText.split("\\n");
        }}"""
    )
    page.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    page.set("Comfy.VueNodes.Enabled", bool(os.environ.get("COMFYUI_VUE")))
    if drawn is None:
        pytest.skip("a page without Vue nodes")
    assert drawn.count("strength") == 2  # a widget's name, another's value


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "vue"])
@pytest.mark.parametrize("enlarged", [0, 300])
def test_a_node_keeps_its_height_when_its_workflow_is_read_again(page: Page, vue: bool, enlarged: int) -> None:
    """Though widgets without effect, which show until the node is read, are hidden again."""
    page.set("Comfy.VueNodes.Enabled", vue)
    page.template("Restore a photo")
    page.page.evaluate(f"(more) => {{ const n = {_RESTORER}; n.setSize([n.size[0], n.size[1] + more]); }}", enlarged)
    heights = [page.page.evaluate(_HEIGHT)]
    for _ in range(2):
        page.page.evaluate("() => app.loadGraphData(structuredClone(app.graph.serialize()))")
        heights.append(page.page.evaluate(_HEIGHT))
    page.page.evaluate(_CHECKED)
    page.page.evaluate(f"() => {{ {_RESTORER}.widgets.find(({{ name }}) => name === 'strength').value = 0.5; }}")
    page.page.evaluate(_CHECKED)
    page.command("Comfy.Undo")
    assert page.page.evaluate(f"() => {_RESTORER}.widgets.find(({{ name }}) => name === 'strength').value") != 0.5
    heights.append(page.page.evaluate(_HEIGHT))
    page.set("Comfy.VueNodes.Enabled", bool(os.environ.get("COMFYUI_VUE")))
    assert len(set(heights)) == 1, heights


@pytest.mark.skipif("COMFYUI_SLOW" not in os.environ, reason="minutes: set COMFYUI_SLOW")
def test_a_model_of_your_own_is_made(page: Page) -> None:
    page.template("Your own 4-bit model")
    for kind in ("AllocateBits", "CalibrateBalance", "QDLoRADistill", "CompareModels"):
        page.widgets(f"QuantFace_{kind}", count=2, metric="ssim", steps=2)
    page.run_through(900)
    page.fit()
    page.shot("Your own 4-bit model")
    for kind in ("QuantFace_AllocateBits", "QuantFace_CompareModels"):
        page.fit(kind)
        page.shot(kind)


def test_the_chart_tells_each_layers_bits(page: Page) -> None:
    page.template("Your own 4-bit model")
    page.keep("QuantFace_LoadModel", "QuantFace_CalibrateBalance", "PreviewImage")
    page.connect("QuantFace_CalibrateBalance", "chart", "PreviewImage", "images")
    page.widgets("QuantFace_CalibrateBalance", count=1, rank=0, unet_only=True)
    page.run_through()
    page.fit("QuantFace_CalibrateBalance")
    chart, told = (page.page.locator(f".quantface-bits {part}") for part in ("[role=img]", ".quantface-told"))
    chart.hover()
    page.shot("chart")
    assert "4-bit weights" in told.inner_text()
    assert ", error " in told.inner_text()
    before = told.inner_text()
    chart.press("ArrowRight")
    assert told.inner_text() != before


def test_training_is_cancelled_from_the_page(page: Page) -> None:
    page.template("Your own 4-bit model")
    page.keep("QuantFace_LoadModel", "QuantFace_QDLoRADistill", "PreviewImage")
    page.page.evaluate(
        """() => {
          const node = LiteGraph.createNode("QuantFace_LoadModel");  // its default: the bundled 4-bit model
          app.graph.add(node);
          node.pos = [40, 400];
          node.connect(0, app.graph._nodes.find(({ type }) => type === "QuantFace_QDLoRADistill"), 0);
        }"""
    )
    page.widgets("QuantFace_QDLoRADistill", steps=10_000, batch_size=1, count=4, validation=1)
    runs = len(page.server.get("/history"))
    page.run()
    shown = "() => Object.keys(app.nodePreviewImages).length > 0"
    page.page.wait_for_function(shown, timeout=60_000)  # the curve, drawn after a step
    page.fit()
    page.shot("training")
    page.cancel()
    history = page.wait(runs + 1, 30)
    assert any(kind == "execution_interrupted" for kind, _ in history["status"]["messages"])


def test_the_page_had_no_errors_of_ours(page: Page) -> None:
    assert not [error for error in page.errors if "quantface" in error.lower()]
