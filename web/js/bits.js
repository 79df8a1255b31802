// Bits of every layer along the network, for weights and activations; hover or use the arrow keys to read the values.
import { COLOURS, element, keepPointer, svg } from "./element.js";

const WIDTH = 1000, HEIGHT = 200; // of the drawing, which stretches to fit the node
const LANES = [62, 130, 198]; // baselines of the three lanes: weight bits, activation bits, the value
const TALL = 56; // height of a lane
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
  const marks = scale();
  for (const each of marks) each.style.display = "none";
  const stage = element("div", {
    position: "relative", flex: "1", minHeight: "0", borderRadius: "6px", overflow: "hidden",
    background: COLOURS.ground, outlineOffset: "-2px",
  }, { tabindex: "0", role: "img", "aria-label": words.empty }, drawing, hint, ...marks);
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
    const number = value === null || value === undefined ? "" : `, ${words.error} ${Number(value).toPrecision(3)}`;
    told.textContent =
      `${name}: ${weights}${words.bits} ${words.weights}, ${activations}${words.bits} ${words.activations}${number}`;
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
      for (const each of marks) each.style.display = "block";
      stage.setAttribute("aria-label", words[meaning]);
      mark = svg("rect", { y: 0, height: HEIGHT, fill: COLOURS.text, opacity: "0.18" });
      drawing.replaceChildren(mark, ...rules(), ...bars(layers), ...values(layers));
      legend.replaceChildren(
        key(COLOURS.weights, words.weights), key(COLOURS.activations, words.activations), key(COLOURS.value, words[meaning]),
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

const height = (bits) => (TALL * bits) / MOST;

function rules() {
  return [0, 1].flatMap((lane) => [4, 8].map((bits) => {
    const y = LANES[lane] - height(bits);
    return svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y, stroke: COLOURS.line, "stroke-width": 1 });
  }));
}

function bar(index, wide, lane, size, fill) {
  return svg("rect", { x: index * wide, width: 0.9 * wide, y: LANES[lane] - size, height: size, fill });
}

function bars(layers) {
  const wide = WIDTH / layers.length;
  return layers.flatMap(([, weights, activations], index) => [
    bar(index, wide, 0, height(weights), COLOURS.weights),
    bar(index, wide, 1, height(activations), COLOURS.activations),
  ]);
}

// On a logarithmic scale: layers' damage spans many orders of magnitude.
function values(layers) {
  const known = layers.map(([, , , value], index) => [value, index]).filter(([value]) => value > 0);
  if (!known.length) return [];
  const logs = known.map(([value]) => Math.log10(value));
  const low = Math.min(...logs), span = Math.max(...logs) - low || 1;
  return known.map(([value, index]) => {
    const size = 4 + (TALL - 4) * ((Math.log10(value) - low) / span);
    return bar(index, WIDTH / layers.length, 2, size, COLOURS.value);
  });
}

// The drawing stretches with the node but text must not, so the scale is a separate overlay.
function scale() {
  return [0, 1].flatMap((lane) => [4, 8].map((bits) => element("span", {
    position: "absolute", right: "2px", top: `${(100 * (LANES[lane] - height(bits))) / HEIGHT}%`, font: "9px/1 sans-serif", color: COLOURS.text, textShadow: `0 0 2px ${COLOURS.ground}`, pointerEvents: "none",
  }, {}, String(bits))));
}
