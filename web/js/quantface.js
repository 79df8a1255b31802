// QuantFace in ComfyUI's page: which node shows what. The widgets themselves know nothing about nodes.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { bitsChart } from "./bits.js";
import * as conditional from "./conditional.js";
import { COLOURS, element, keepPointer } from "./element.js";
import { noteLines } from "./notes.js";
import { slider } from "./slider.js";

const locale = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "";
const chinese = () => String(locale()).startsWith("zh");
const words = (english, translated) => (chinese() ? translated : english);
const address = ({ filename, subfolder, type }) =>
  api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);

const notesOf = ({ quantface_notes: runs = [] }) =>
  noteLines(runs, (items, all) => words(`item ${items} of ${all}: `, `${all} 项中的第 ${items} 项：`));

const comparison = (left, right, label = () => words("comparison", "对比")) => ({
  height: 260,
  label,
  make: () => slider({
    left: left(), right: right(), ...words(
      { empty: "Run to compare", previous: "previous image", next: "next image" },
      { empty: "运行后比较", previous: "上一张", next: "下一张" },
    ),
  }),
  show: (widget, output) => {
    if (!output.quantface_after) return;
    const [before, after] = [output.quantface_before.flat(), output.quantface_after].map((files) => files.map(address));
    widget.show(before, after, notesOf(output));
  },
});

const bits = {
  height: 240,
  label: () => words("bits", "位宽"),
  make: () => bitsChart(words(
    {
      empty: "Run to see each layer's bits", weights: "weights", activations: "activations", bits: "-bit", error: "error",
      alone: "image error with only this layer at 4 bits", balanced: "layer error after balancing",
    },
    {
      empty: "运行后显示各层位宽", weights: "权重", activations: "激活", bits: " 位", error: "误差",
      alone: "仅此层为 4 位时图像的误差", balanced: "平衡后该层的误差",
    },
  )),
  show: (widget, output) => {
    if (output.quantface_bits) widget.show(output.quantface_bits[0]);
  },
};

// A line or two of text, if there are any, for nodes whose images the page shows itself.
const lines = {
  height: 60,
  label: () => words("notes", "提示"),
  make: () => {
    const told = element("div", {
      font: "12px sans-serif", color: COLOURS.text, whiteSpace: "pre-line", overflowY: "auto", height: "100%",
    }, { class: "quantface-notes", role: "status", hidden: "" });
    keepPointer(told);
    const show = (text) => { [told.textContent, told.hidden] = [text, !text]; };
    return { element: told, isEmpty: () => told.hidden, show };
  },
  show: (widget, output) => widget.show(notesOf(output)),
  keepsPictures: true,
};

const VIEWS = {
  QuantFace_RestoreFace: comparison(() => words("before", "修复前"), () => words("after", "修复后")),
  QuantFace_RepairScratches: comparison(
    () => words("before", "修复前"), () => words("after", "修复后"), () => words("scratches repaired", "划痕修复对比"),
  ),
  QuantFace_PasteFaces: comparison(() => words("before", "修复前"), () => words("after", "修复后")),
  QuantFace_RestoreVideo: { ...lines, keepsPictures: false }, // its frames while it ran
  QuantFace_CropFaces: lines,
  QuantFace_CompareModels: comparison(() => words("first", "第一个"), () => words("second", "第二个")),
  QuantFace_AllocateBits: bits,
  QuantFace_CalibrateBalance: bits,
};

const MARGIN = 10; // pixels the canvas leaves around an element

const heightOf = (widget, view) => (widget.isEmpty?.() ? 2 * MARGIN : view.height);

// Vue nodes give an element the size it asks for.
function fit(widget, view) {
  widget.element.style.minHeight = `${heightOf(widget, view) - 2 * MARGIN}px`;
}

function attach(node, view) {
  const widget = view.make();
  node.quantface = widget;
  fit(widget, view);
  const shown = node.addDOMWidget("quantface_view", "quantface_view", widget.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // the page's properties panel would list it, empty, and change its width
    getMinHeight: () => heightOf(widget, view),
    ...(widget.isEmpty && { getMaxHeight: () => heightOf(widget, view) }),
    getValue: () => undefined,
    setValue: () => {},
  });
  shown.label = view.label(); // where the page names it, as in an app made of the workflow
  shown.serialize = false; // not a value: it must not shift the widget values of saved workflows
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width, 340), Math.max(node.size[1], height)]);
}

// The key under which the page stores a node's last output; inside a subgraph it includes the subgraph's id.
function locator({ graph, id }) {
  const inside = graph?.rootGraph && graph !== graph.rootGraph;
  return inside ? `${graph.id}:${id}` : String(id);
}

// Where Vue nodes find their previews; newer frontends offer no other access, and only mirror it in `app`.
const outputStore = () =>
  document.querySelector("#vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s?.get("nodeOutput");

// Remove the previews that the host showed while the node ran: the result replaces them.
function dropPreviews(node) {
  outputStore()?.revokePreviewsByLocatorId?.(locator(node));
  delete app.nodePreviewImages?.[locator(node)];
  node.imgs = undefined;
  const index = node.widgets.findIndex(({ name }) => name === "$$canvas-image-preview");
  if (index < 0) return;
  node.widgets.splice(index, 1)[0].onRemove?.();
  node.setSize([node.size[0], node.computeSize()[1]]);
}

// The page lists a pack's templates in the server's file system order; sorted by name, the one for a photo comes first.
function sortTemplates() {
  const pack = decodeURIComponent(import.meta.url.split("/extensions/")[1]?.split("/")[0] ?? "");
  const given = api.getWorkflowTemplates;
  if (!pack || !given) return;
  api.getWorkflowTemplates = async function (...rest) {
    const templates = await given.apply(this, rest);
    templates?.[pack]?.sort();
    return templates;
  };
}

app.registerExtension({
  name: "QuantFace",
  setup: sortTemplates,
  addCustomNodeDefs: conditional.learn,
  refreshComboInNodes(definitions) {
    conditional.learn(definitions);
    conditional.updateAll();
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    // Any of our nodes may sit between the loader and Restore Face.
    if (nodeData.name.startsWith("QuantFace_")) conditional.follow(nodeType, nodeData.name);
    const view = VIEWS[nodeData.name];
    if (!view) return;
    const { onNodeCreated, onExecuted, onConfigure } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...given) {
      onNodeCreated?.apply(this, given);
      attach(this, view);
    };
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.call(this, output);
      if (!this.quantface || !output) return;
      view.show(this.quantface, output);
      fit(this.quantface, view);
      if (!view.keepsPictures) dropPreviews(this);
    };
    // A workflow reopened in another tab still has its results, which the page restores some time after its nodes.
    nodeType.prototype.onConfigure = function (...given) {
      onConfigure?.apply(this, given);
      let shown = false;
      for (const wait of [0, 100, 500, 2000]) {
        setTimeout(() => {
          const output = app.nodeOutputs?.[locator(this)];
          if (shown || !this.quantface || !output) return;
          shown = true;
          view.show(this.quantface, output);
          fit(this.quantface, view);
        }, wait);
      }
    };
  },
});
