// Bits of every layer along the network, weights and activations; hover or use the arrow keys for the numbers.
import { COLOURS, element, keepPointer, svg } from "./element.js";

const WIDTH = 1000, HEIGHT = 200; // of the drawing, which stretches to the node
const SPLIT = 128; // bits above, the value below
const MOST = 8; // bits

export function bitsChart(words) {
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", width: "100%", height: "100%",
    style: "position: absolute; inset: 0",
  });
  const hint = element("div", {
    position: "absolute", inset: "0", display: "grid", placeItems: "center", color: COLOURS.faint,
    font: "12px sans-serif",
  }, {}, words.empty);
  const stage = element("div", {
    position: "relative", flex: "1", minHeight: "0", borderRadius: "6px", overflow: "hidden",
    background: COLOURS.ground, outlineOffset: "-2px",
  }, { tabindex: "0", role: "img", "aria-label": words.empty }, drawing, hint);
  const legend = element("div", {
    display: "flex", gap: "10px", flexWrap: "wrap", font: "11px sans-serif", color: COLOURS.text, padding: "2px 4px",
  });
  const told = element("div", {
    font: "11px/15px sans-serif", color: COLOURS.text, padding: "0 4px", height: "30px", overflow: "hidden",
    overflowWrap: "anywhere",
  }, { class: "quantface-told", "aria-live": "polite" });
  const root = element("div", {
    display: "flex", flexDirection: "column", width: "100%", height: "100%", minHeight: "0",
  }, { class: "quantface-bits" }, legend, stage, told);
  keepPointer(root);

  let layers = [], chosen = 0, mark = null;

  function tell(index) {
    if (!layers.length) return;
    chosen = Math.min(layers.length - 1, Math.max(0, index));
    const [name, weights, activations, value] = layers[chosen];
    const wide = WIDTH / layers.length;
    mark.setAttribute("x", chosen * wide);
    mark.setAttribute("width", Math.max(wide, 2));
    const number = value === null || value === undefined ? "" : `, ${Number(value).toPrecision(3)}`;
    told.textContent =
      `${name}: ${weights} ${words.bits} ${words.weights}, ${activations} ${words.bits} ${words.activations}${number}`;
  }

  stage.addEventListener("pointermove", (event) => {
    const box = stage.getBoundingClientRect();
    tell(Math.floor(((event.clientX - box.left) / box.width) * layers.length));
  });
  stage.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    tell(chosen + by);
  });

  return {
    element: root,
    show({ meaning, layers: given }) {
      layers = given;
      hint.style.display = "none";
      stage.setAttribute("aria-label", meaning);
      mark = svg("rect", { y: 0, height: HEIGHT, fill: COLOURS.text, opacity: "0.18" });
      drawing.replaceChildren(mark, ...rules(), ...bars(layers), ...values(layers));
      legend.replaceChildren(
        key(COLOURS.weights, words.weights), key(COLOURS.activations, words.activations), key(COLOURS.value, meaning),
      );
      tell(0);
    },
  };
}

function key(colour, text) {
  const dot = element("span", {
    display: "inline-block", width: "9px", height: "9px", borderRadius: "2px", background: colour, marginRight: "4px",
  });
  return element("span", {}, {}, dot, text);
}

const height = (bits) => ((SPLIT - 8) * bits) / MOST;

function rules() {
  return [4, 6, 8].map((bits) => {
    const y = SPLIT - height(bits);
    return svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y, stroke: COLOURS.line, "stroke-width": 1 });
  });
}

function bars(layers) {
  const wide = WIDTH / layers.length;
  return layers.flatMap(([, weights, activations], index) =>
    [[weights, COLOURS.weights], [activations, COLOURS.activations]].map(([bits, fill], side) =>
      svg("rect", {
        x: (index + 0.05 + 0.45 * side) * wide, width: 0.45 * wide, y: SPLIT - height(bits), height: height(bits), fill,
      })));
}

// On a logarithmic scale: a layer's damage spans many powers of ten.
function values(layers) {
  const wide = WIDTH / layers.length;
  const known = layers.map(([, , , value], index) => [value, index]).filter(([value]) => value > 0);
  if (!known.length) return [];
  const logs = known.map(([value]) => Math.log10(value));
  const low = Math.min(...logs), span = Math.max(...logs) - low || 1, tall = HEIGHT - SPLIT - 8;
  return known.map(([value, index]) => {
    const size = 4 + (tall - 4) * ((Math.log10(value) - low) / span);
    return svg("rect", {
      x: (index + 0.1) * wide, width: 0.8 * wide, y: HEIGHT - size, height: size, fill: COLOURS.value,
    });
  });
}
