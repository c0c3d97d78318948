"use strict";
(() => {
  const dialog = document.querySelector("dialog");
  const stage = dialog.querySelector(".stage");
  const figures = [...document.querySelectorAll(".drawings figure")];
  const LARGEST = 40;
  let shown = 0;
  let zoom = 1;

  // the width at which the whole picture is visible, times the zoom
  function resize() {
    const svg = stage.querySelector("svg");
    if (!svg) return;
    const { width, height } = svg.viewBox.baseVal;
    const scale = zoom * Math.min(stage.clientWidth / width, stage.clientHeight / height);
    svg.style.width = `${scale * width}px`;
    svg.style.height = `${scale * height}px`;
    svg.style.setProperty("--unit", 1 / scale); // numbers keep their size on the screen
  }

  // keeps the point of the picture at x, y of the stage in its place
  function zoomTo(wanted, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const svg = stage.querySelector("svg");
    const frame = stage.getBoundingClientRect();
    const before = svg.getBoundingClientRect();
    const across = (frame.left + x - before.left) / before.width;
    const down = (frame.top + y - before.top) / before.height;
    zoom = Math.min(LARGEST, Math.max(1, wanted));
    resize();
    const after = svg.getBoundingClientRect();
    stage.scrollLeft += after.left + across * after.width - frame.left - x;
    stage.scrollTop += after.top + down * after.height - frame.top - y;
  }

  function show(i) {
    shown = (i + figures.length) % figures.length;
    const figure = figures[shown];
    dialog.querySelector("#large-name").textContent = figure.dataset.name;
    dialog.querySelector("#large-about").textContent = figure.dataset.about;
    stage.replaceChildren(figure.querySelector("svg").cloneNode(true));
    zoom = 1;
    if (!dialog.open) {
      dialog.showModal();
      stage.focus();
    }
    resize();
  }

  const actions = {
    previous: () => show(shown - 1),
    next: () => show(shown + 1),
    smaller: () => zoomTo(zoom / 1.5),
    larger: () => zoomTo(zoom * 1.5),
    fit: () => zoomTo(1),
    close: () => dialog.close(),
  };

  figures.forEach((figure, i) => {
    figure.querySelector("button").addEventListener("click", () => show(i));
    for (const link of document.querySelectorAll(`a[href="#${figure.id}"]`)) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        show(i);
      });
    }
  });
  for (const button of dialog.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => actions[button.dataset.do]());
  }
  for (const name of ["boxes", "numbers"]) {
    const box = document.getElementById(name);
    box.addEventListener("change", () => dialog.classList.toggle(`no-${name}`, !box.checked));
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { "+": "larger", "=": "larger", "-": "smaller", 0: "fit" };
    if (zoom === 1) Object.assign(keys, { ArrowLeft: "previous", ArrowRight: "next" });
    if (!(event.key in keys)) return;
    event.preventDefault();
    actions[keys[event.key]]();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    zoomTo(zoom * Math.exp(-event.deltaY / 400), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1 || event.pointerType !== "mouse") return;
    stage.scrollLeft -= event.movementX;
    stage.scrollTop -= event.movementY;
  });
  window.addEventListener("resize", resize);

  // a heading sorts the rows by its column, numbers by value; a second time the other way round
  const table = document.querySelector(".pictures");
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent;
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  headings.forEach((heading, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a, i), value(b, i)];
        const difference = i === 0 ? compare(x, y) : (Number(x) || 0) - (Number(y) || 0) || compare(x, y);
        return down ? -difference : difference;
      });
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
})();
