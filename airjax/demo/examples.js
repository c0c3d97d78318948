// Thumbnails; the event has the number of the one that was clicked.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-number]");
  if (button !== null) trigger("select", { number: button.dataset.number });
});
