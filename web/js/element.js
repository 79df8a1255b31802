// Small helpers to build elements; colours are the page's own, so that every theme fits.
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

// The node must not be dragged, nor the canvas panned, by what happens inside.
export function keepPointer(target) {
  for (const kind of ["pointerdown", "pointermove", "mousedown"]) {
    target.addEventListener(kind, (event) => event.stopPropagation());
  }
}
