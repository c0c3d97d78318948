// The canvas that strokes are drawn on. Run by gradio with `element`, `props` and `trigger`: the
// strokes become the component's value, as JSON, and each one, when it ends, is a `submit`.
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d");
const thickness = canvas.width * Number(canvas.dataset.thickness);
let strokes = [];
let current = null;
let colour = "#ffffff";

function redraw() {
  pen.fillStyle = "black";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = thickness;
  for (const stroke of strokes) {
    pen.strokeStyle = stroke.colour;
    pen.beginPath();
    const [first, ...others] = stroke.points.map(([x, y]) => [x * canvas.width, y * canvas.height]);
    pen.moveTo(...first);
    pen.lineTo(...first);
    others.forEach((point) => pen.lineTo(...point));
    pen.stroke();
  }
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const share = (value, length) => Math.round(10000 * Math.min(Math.max(value / length, 0), 1)) / 10000;
  return [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)];
}

function tell() {
  props.value = JSON.stringify(strokes);
  trigger("submit");
}

function finish() {
  if (current === null) return;
  current = null;
  tell();
}

canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  current = { colour, points: [pointOf(event)] };
  strokes.push(current);
  redraw();
});
canvas.addEventListener("pointermove", (event) => {
  if (current === null) return;
  current.points.push(pointOf(event));
  redraw();
});
canvas.addEventListener("pointerup", finish);
canvas.addEventListener("pointercancel", finish);

element.querySelector("[data-do=undo]").addEventListener("click", () => {
  strokes.pop();
  redraw();
  tell();
});
element.querySelector("[data-do=clear]").addEventListener("click", () => {
  strokes = [];
  redraw();
  tell();
});
for (const button of element.querySelectorAll("[data-colour]")) {
  button.addEventListener("click", () => {
    colour = button.dataset.colour;
    element.querySelectorAll("[data-colour]").forEach((other) =>
      other.setAttribute("aria-pressed", String(other === button))
    );
  });
}
// another picture is shown: the drawing is removed without an event
canvas.addEventListener("airjax-clear", () => {
  strokes = [];
  props.value = "[]";
  redraw();
});
redraw();
