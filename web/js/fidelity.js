// Restore Face's "fidelity" is CodeFormer's: show it if the connected model has it, or if the page cannot tell.
import { app } from "../../../scripts/app.js";

const LOADER = "QuantFace_LoadModel", RESTORER = "QuantFace_RestoreFace";
let known = new Set(); // models with a fidelity, by name in the loader's menu
const saved = new WeakMap(); // heights of nodes just read from a workflow

export function learn(definitions) {
  known = new Set(definitions[LOADER]?.input?.required?.model?.[1]?.fidelity ?? []);
}

// The loader behind a node, past reroutes and nodes that pass a model on; undefined if the path leaves the graph.
function loaderOf(node) {
  for (let steps = 0; node && steps < 100; steps++) {
    if (node.type === LOADER) return node;
    const slot = node.inputs?.findIndex(({ name, type }) => name === "fr_model" || type === "FR_MODEL" || !name) ?? -1;
    node = slot < 0 ? undefined : node.getInputNode(slot);
  }
  return undefined;
}

function hasFidelity(node) {
  const slot = node.inputs?.findIndex(({ name }) => name === "fr_model") ?? -1;
  if (slot < 0 || !node.isInputConnected(slot)) return false;
  const model = loaderOf(node.getInputNode(slot));
  const widget = model?.widgets?.find(({ name }) => name === "model");
  const given = model?.inputs?.some(({ name }, slot) => name === "model" && model.isInputConnected(slot));
  return !widget || given || known.has(widget.value);
}

function update(node) {
  const widget = node.widgets?.find(({ name }) => name === "fidelity");
  if (!widget) return;
  const hidden = !hasFidelity(node), read = saved.get(node);
  saved.delete(node);
  if (Boolean(widget.hidden) === hidden) return;
  const [width, height] = node.size, before = node.computeSize()[1];
  widget.hidden = hidden; // for the canvas
  widget.options.hidden = hidden; // for Vue nodes
  const least = node.computeSize()[1];
  // A height saved in a workflow already excludes hidden widgets.
  node.setSize([width, read ? Math.max(read, least) : height + least - before]);
  node.setDirtyCanvas(true, true);
}

function everyNode(graph, act) {
  for (const node of graph?.nodes ?? []) {
    act(node);
    if (node.subgraph) everyNode(node.subgraph, act);
  }
}

// Deferred: links appear some time after the nodes they connect.
export function updateAll() {
  setTimeout(() => everyNode(app.rootGraph ?? app.graph, (node) => { if (node.type === RESTORER) update(node); }));
}

export function follow(nodeType, name) {
  const { onNodeCreated, onConnectionsChange, onConfigure } = nodeType.prototype;
  nodeType.prototype.onConnectionsChange = function (...given) {
    onConnectionsChange?.apply(this, given);
    updateAll();
  };
  nodeType.prototype.onConfigure = function (...given) {
    onConfigure?.apply(this, given);
    if (name === RESTORER) saved.set(this, this.size[1]);
    updateAll();
  };
  nodeType.prototype.onNodeCreated = function (...given) {
    onNodeCreated?.apply(this, given);
    updateAll();
    const widget = name === LOADER && this.widgets?.find(({ name }) => name === "model");
    if (!widget) return;
    const { callback } = widget;
    widget.callback = function (...chosen) {
      callback?.apply(this, chosen);
      updateAll();
    };
  };
}
