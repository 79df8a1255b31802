// A widget that has no effect, because of other widgets or the connected model, is hidden. Linked ones always show, and
// so does any whose effect the page cannot tell.
import { app } from "../../../scripts/app.js";

const LOADER = "QuantFace_LoadModel";
const CONDITIONS = { // by node and widget: whether it may have an effect
  QuantFace_RestoreFace: {
    strength: (node) => mayBe(node, "blend", "strength"),
    positions: (node) => mayBe(node, "faces", "positions"),
    fidelity: mayHaveFidelity,
  },
  QuantFace_RestoreVideo: {
    strength: (node) => mayBe(node, "blend", "strength"),
    positions: (node) => mayBe(node, "faces", "positions"),
    fidelity: mayHaveFidelity,
  },
  QuantFace_CropFaces: { positions: (node) => mayBe(node, "faces", "positions") },
};
const DECIDING = new Set(["model", "blend", "faces"]); // the widgets they depend on
let withFidelity = new Set(); // models, by name in the loader's menu
const saved = new WeakMap(); // heights of nodes just read from a workflow

export function learn(definitions) {
  withFidelity = new Set(definitions[LOADER]?.input?.required?.model?.[1]?.fidelity ?? []);
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

function isLinked(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot >= 0 && node.isInputConnected(slot);
}

function mayBe(node, name, value) {
  return isLinked(node, name) || widgetOf(node, name)?.value === value;
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

// CodeFormer has one.
const hasFidelity = (loader) => isLinked(loader, "model") || withFidelity.has(widgetOf(loader, "model")?.value);

// Where no link brings the model, nodes of another pack may: of any loader in the graph.
function mayHaveFidelity(node) {
  if (!isLinked(node, "fr_model")) return Boolean(node.graph?.nodes.some((n) => n.type === LOADER && hasFidelity(n)));
  const loader = loaderOf(node.getInputNode(node.findInputSlot("fr_model")));
  return !loader || hasFidelity(loader);
}

// A widget's options, and those that newer pages keep for its node's number: of a node that moves into a subgraph they
// are the former widget's.
const optionsOf = (widget) => [widget.options, widget._state?.options].filter(Boolean);

// By the options, which are ours alone: newer pages call a linked widget hidden.
function update(node) {
  const changed = Object.entries(CONDITIONS[node.type])
    .map(([name, applies]) => [widgetOf(node, name), !applies(node) && !isLinked(node, name)])
    .filter(([widget, hidden]) => widget && optionsOf(widget).some((options) => Boolean(options.hidden) !== hidden));
  if (changed.length) setHidden(node, changed);
}

function setHidden(node, changed) {
  const read = saved.get(node);
  const [width, height] = node.size, before = node.computeSize()[1];
  for (const [widget, hidden] of changed) {
    widget.hidden = hidden; // for the canvas
    for (const options of optionsOf(widget)) options.hidden = hidden; // for Vue nodes
  }
  node.widgets.push(node.widgets.pop()); // Vue nodes read options again when the list changes
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

const rootGraph = () => app.rootGraph ?? app.graph;

// Deferred: links appear some time after the nodes they connect.
export function updateAll() {
  setTimeout(() => everyNode(rootGraph(), (node) => {
    if (node.type in CONDITIONS) update(node);
    saved.delete(node);
  }));
}

export function follow(nodeType, name) {
  const { onNodeCreated, onConnectInput, onConnectionsChange, onConfigure } = nodeType.prototype;
  // A linked widget shows; already before it is, as what a subgraph shows outside starts as a copy.
  nodeType.prototype.onConnectInput = function (slot, ...given) {
    const widget = widgetOf(this, this.inputs[slot]?.widget?.name);
    if (widget?.options.hidden) setHidden(this, [[widget, false]]);
    return onConnectInput?.call(this, slot, ...given);
  };
  nodeType.prototype.onConnectionsChange = function (...given) {
    onConnectionsChange?.apply(this, given);
    updateAll();
  };
  nodeType.prototype.onConfigure = function (...given) {
    onConfigure?.apply(this, given);
    if (name in CONDITIONS) {
      saved.set(this, this.size[1]);
      // Before Vue nodes measure it. Not in a subgraph: what it shows outside would stay hidden there.
      if (this.graph === rootGraph()) update(this);
    }
    updateAll();
  };
  nodeType.prototype.onNodeCreated = function (...given) {
    onNodeCreated?.apply(this, given);
    updateAll();
    for (const widget of this.widgets ?? []) {
      if (!DECIDING.has(widget.name)) continue;
      const { callback } = widget;
      widget.callback = function (...chosen) {
        callback?.apply(this, chosen);
        updateAll();
      };
    }
  };
}
