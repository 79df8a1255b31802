// Small helpers to build elements; colours are the page's own, so that they fit every theme.
import { app } from "../../../scripts/app.js";

const SVG = "http://www.w3.org/2000/svg";

export function element(name, style = {}, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made.style, style);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const COLOURS = {
  text: "var(--input-text, #ddd)",
  faint: "var(--descrip-text, #999)",
  line: "var(--border-color, #4e4e4e)",
  ground: "var(--comfy-input-bg, #222)",
  weights: "#3b82f6",
  activations: "#f59e0b",
  value: "#10b981",
};

// Pointer input inside must neither drag the node nor pan the canvas, but the wheel and the middle button still go to
// the canvas. Vue nodes forward these automatically.
export function keepPointer(target) {
  for (const kind of ["pointerdown", "pointermove", "pointerup", "mousedown"]) {
    target.addEventListener(kind, (event) => {
      const middle = event.button === 1 || event.buttons & 4;
      if (kind !== "pointerup") event.stopPropagation();
      if (middle && kind !== "mousedown") toCanvas(event);
    });
  }
  target.addEventListener("wheel", (event) => {
    const { scrollHeight, clientHeight } = event.target;
    if (!(scrollHeight > clientHeight + 1)) toCanvas(event);
  }, { passive: false });
}

function toCanvas(event) {
  if (globalThis.LiteGraph?.vueNodesMode) return;
  event.preventDefault();
  app.canvas.canvas.dispatchEvent(new event.constructor(event.type, event));
}
