// The picture with a box around each object: zoom, and corrections by hand. Run by gradio with
// `element`, `props` and `trigger`: boxes are the component's value, as JSON, `props.address` is the
// picture. A correction is an event `edit`; the new boxes come back as the value.
const find = (selector) => element.querySelector(selector);
const stage = find(".air-stage");
const svg = find("svg");
const boxes = find("g");
const rubber = find(".air-rubber");
const CLOSE = 4; // pixels of the screen in which a tap still means a box, and is not a drag
const LARGEST = 40;
let shown = { width: 1, height: 1, boxes: [], typical: [1, 1] };
let zoom = 1;
let correcting = false;
let start = null;

// pixels of the screen for one of the picture at which all of it is visible
function fit() {
  const limit = Math.max(0.65 * window.innerHeight, 280);
  return Math.min(stage.clientWidth / shown.width, limit / shown.height);
}

function resize() {
  if (stage.clientWidth === 0) return; // on a tab that is not shown
  svg.style.width = `${zoom * fit() * shown.width}px`;
  svg.style.height = `${zoom * fit() * shown.height}px`;
  find("image").style.imageRendering = zoom * fit() > 1 ? "pixelated" : "auto";
  find("[data-zoom]").textContent = `${Math.round(100 * zoom * fit())} %`;
}

// keeps the point of the picture at x, y of the screen in its place
function zoomTo(wanted, x, y) {
  const frame = stage.getBoundingClientRect();
  [x, y] = [x ?? frame.left + frame.width / 2, y ?? frame.top + frame.height / 2];
  const before = svg.getBoundingClientRect();
  const [across, down] = [(x - before.left) / before.width, (y - before.top) / before.height];
  zoom = Math.min(LARGEST, Math.max(1, wanted));
  resize();
  const after = svg.getBoundingClientRect();
  stage.scrollLeft += after.left + across * after.width - x;
  stage.scrollTop += after.top + down * after.height - y;
}

function draw() {
  if (!props.value) return;
  shown = JSON.parse(props.value);
  svg.setAttribute("viewBox", `0 0 ${shown.width} ${shown.height}`);
  find("image").setAttribute("width", shown.width);
  find("image").setAttribute("height", shown.height);
  boxes.replaceChildren(...shown.boxes.map(([number, x0, y0, x1, y1, colour, title]) => {
    const box = rectangle([x0, y0, x1, y1], document.createElementNS(svg.namespaceURI, "rect"));
    box.setAttribute("stroke", colour);
    box.dataset.number = number;
    box.classList.toggle("air-by-hand", number < 0);
    box.append(document.createElementNS(svg.namespaceURI, "title"));
    box.firstChild.textContent = title;
    return box;
  }));
  find("[data-do=undo]").disabled = !shown.edits;
  resize();
}

function show() {
  find("image").setAttribute("href", props.address);
  zoom = 1;
  draw();
}

function rectangle([x0, y0, x1, y1], box) {
  const sides = { x: Math.min(x0, x1), y: Math.min(y0, y1) };
  Object.assign(sides, { width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) });
  for (const [name, value] of Object.entries(sides)) box.setAttribute(name, value);
  return box;
}

function pointOf(event) {
  const frame = svg.getBoundingClientRect();
  return [
    ((event.clientX - frame.left) / frame.width) * shown.width,
    ((event.clientY - frame.top) / frame.height) * shown.height,
  ];
}

// the number of the smallest box that holds a point
function numberAt([x, y]) {
  const near = CLOSE / (zoom * fit());
  const area = ([, x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const held = shown.boxes.filter(([, x0, y0, x1, y1]) =>
    x > x0 - near && x < x1 + near && y > y0 - near && y < y1 + near
  );
  return held.sort((a, b) => area(a) - area(b))[0]?.[0];
}

function tapped([x, y]) {
  const number = numberAt([x, y]);
  const [w, h] = shown.typical;
  if (number === undefined) {
    trigger("edit", { action: "add", box: [x - w / 2, y - h / 2, x + w / 2, y + h / 2] });
  } else {
    trigger("edit", { action: "remove", number });
  }
}

stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !svg.contains(event.target)) return;
  start = { at: pointOf(event), x: event.clientX, y: event.clientY };
  if (event.pointerType !== "touch") {
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
  }
});
stage.addEventListener("pointermove", (event) => {
  if (start === null || event.pointerType === "touch") return;
  if (correcting) {
    rectangle([...start.at, ...pointOf(event)], rubber);
  } else {
    stage.scrollLeft -= event.movementX;
    stage.scrollTop -= event.movementY;
  }
});
stage.addEventListener("pointerup", (event) => {
  rectangle([0, 0, 0, 0], rubber);
  const from = start;
  start = null;
  if (from === null || !correcting) return;
  const end = pointOf(event);
  if (Math.hypot(event.clientX - from.x, event.clientY - from.y) <= CLOSE) tapped(end);
  else if (event.pointerType !== "touch") {
    trigger("edit", { action: "add", box: [...from.at, ...end] });
  }
});
stage.addEventListener("pointercancel", () => {
  start = null;
  rectangle([0, 0, 0, 0], rubber);
});
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return; // the page is scrolled, or fingers pinch
  event.preventDefault();
  zoomTo(zoom * Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
}, { passive: false });
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { "+": zoom * 1.5, "=": zoom * 1.5, "-": zoom / 1.5, 0: 1 };
  if (!(event.key in keys)) return;
  event.preventDefault();
  zoomTo(keys[event.key]);
});

const actions = {
  smaller: () => zoomTo(zoom / 1.5),
  larger: () => zoomTo(zoom * 1.5),
  full: () => zoomTo(1 / fit()),
  fit: () => zoomTo(1),
  undo: () => trigger("edit", { action: "undo" }),
  correct: (button) => {
    correcting = !correcting;
    button.setAttribute("aria-pressed", String(correcting));
    element.firstElementChild.classList.toggle("air-correcting", correcting);
  },
};
for (const button of element.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => actions[button.dataset.do](button));
}
find("input").addEventListener("change", (event) => {
  boxes.style.display = event.target.checked ? "" : "none";
});
find("[data-do=correct]").setAttribute("aria-pressed", "false");
new ResizeObserver(resize).observe(stage);
watch("value", draw);
watch("address", show);
show();
