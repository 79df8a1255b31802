// A before/after slider over one or more pairs of images: drag it, or use the arrow keys.
import { COLOURS, element, keepPointer } from "./element.js";

const STEP = 0.02; // of the width, per arrow key press
const KEYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, Home: -1, End: 1 };
const FILL = { position: "absolute", inset: "0", width: "100%", height: "100%", objectFit: "contain" };
const NOTE = {
  position: "absolute", top: "6px", padding: "1px 6px", borderRadius: "4px", font: "11px sans-serif",
  color: "#fff", background: "rgba(0, 0, 0, 0.55)", pointerEvents: "none",
};

export function slider({ left, right, empty, previous, next }) {
  const before = element("img", { ...FILL, display: "none" }, { draggable: "false", alt: left });
  const after = element("img", { ...FILL, display: "none" }, { draggable: "false", alt: right });
  const line = element("div", {
    position: "absolute", top: "0", bottom: "0", width: "2px", marginLeft: "-1px", display: "none",
    background: "#fff", boxShadow: "0 0 3px #000", pointerEvents: "none",
  });
  line.append(element("div", {
    position: "absolute", top: "50%", left: "-10px", width: "22px", height: "22px", marginTop: "-11px",
    borderRadius: "50%", background: "#fff", boxShadow: "0 0 4px rgba(0, 0, 0, 0.6)",
    font: "12px/22px sans-serif", textAlign: "center", color: "#333",
  }, {}, "\u2194"));
  const leftNote = element("span", { ...NOTE, left: "6px", display: "none" }, {}, left);
  const rightNote = element("span", { ...NOTE, right: "6px", display: "none" }, {}, right);
  const hint = element("div", {
    position: "absolute", inset: "0", display: "grid", placeItems: "center", color: COLOURS.faint,
    font: "12px sans-serif", pointerEvents: "none",
  }, {}, empty);
  const stage = element("div", {
    position: "relative", flex: "1", minHeight: "0", overflow: "hidden", borderRadius: "6px",
    background: COLOURS.ground, cursor: "ew-resize", touchAction: "none", outlineOffset: "-2px",
  }, { tabindex: "0", role: "slider", "aria-label": `${left} / ${right}`, "aria-valuemin": "0", "aria-valuemax": "100" },
  before, after, line, leftNote, rightNote, hint);
  const count = element("span", { minWidth: "56px", textAlign: "center" }, { role: "status" });
  const pages = element("div", {
    display: "none", justifyContent: "center", alignItems: "center", gap: "6px", font: "12px sans-serif",
    color: COLOURS.text, paddingTop: "4px",
  }, {}, button("\u2039", previous, () => turn(-1)), count, button("\u203a", next, () => turn(1)));
  const told = element("div", {
    display: "none", padding: "4px 2px 0", font: "12px sans-serif", color: COLOURS.text, whiteSpace: "pre-line",
    maxHeight: "40%", overflowY: "auto",
  }, { class: "quantface-notes", role: "status" });
  const root = element("div", {
    display: "flex", flexDirection: "column", width: "100%", height: "100%", minHeight: "0",
  }, { class: "quantface-slider" }, stage, pages, told);
  keepPointer(root);

  let pairs = [], page = 0, share = 0.5;

  // Where the image lies within the stage: it keeps its aspect ratio, so there may be space beside or above it.
  function picture() {
    const { clientWidth: w, clientHeight: h } = stage;
    const shape = (after.naturalWidth || 1) / (after.naturalHeight || 1);
    const width = Math.min(w, h * shape);
    return { left: (w - width) / 2, width, whole: w };
  }

  function draw() {
    const { left: start, width, whole } = picture();
    const x = start + share * width;
    after.style.clipPath = `inset(0 0 0 ${whole ? (100 * x) / whole : 50}%)`;
    before.style.clipPath = `inset(0 ${whole ? 100 - (100 * x) / whole : 50}% 0 0)`;
    line.style.left = `${x}px`;
    stage.setAttribute("aria-valuenow", Math.round(100 * share));
  }

  function move(value) {
    share = Math.min(1, Math.max(0, value));
    draw();
  }

  function turn(by) {
    page = (page + by + pairs.length) % pairs.length;
    [before.src, after.src] = pairs[page];
    count.textContent = `${page + 1} / ${pairs.length}`;
  }

  function follow(event) {
    const box = stage.getBoundingClientRect(); // scales with the canvas zoom, unlike clientWidth
    const { left: start, width, whole } = picture();
    move((((event.clientX - box.left) / box.width) * whole - start) / width);
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !pairs.length) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
  stage.addEventListener("keydown", (event) => {
    const by = KEYS[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(share + by);
  });
  after.addEventListener("load", draw);
  new ResizeObserver(draw).observe(stage);

  return {
    element: root,
    show(befores, afters, notes) {
      told.textContent = notes;
      told.style.display = notes ? "block" : "none";
      pairs = afters.map((address, index) => [befores[index], address]);
      page = Math.min(page, pairs.length - 1);
      for (const part of [before, after, line, leftNote, rightNote]) part.style.display = "block";
      hint.style.display = "none";
      pages.style.display = pairs.length > 1 ? "flex" : "none";
      turn(0);
    },
  };
}

function button(text, label, act) {
  const made = element("button", {
    border: `1px solid ${COLOURS.line}`, borderRadius: "4px", background: "transparent", color: "inherit",
    cursor: "pointer", padding: "0 8px",
  }, { type: "button", title: label, "aria-label": label }, text);
  made.addEventListener("click", act);
  return made;
}
