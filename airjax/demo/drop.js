// Files dropped anywhere on the page are uploaded as if they were chosen with the button.
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
const highlighted = (yes) => document.body.classList.toggle("air-dropping", yes);

document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault(); // otherwise the browser would leave the page and show the file
  highlighted(true);
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) highlighted(false);
});
document.addEventListener("drop", (event) => {
  highlighted(false);
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.querySelector("button[role=tab]").click(); // the tab that shows the answer
  document.querySelector("#seen").parentElement.scrollIntoView({ behavior: "smooth" });
  const input = document.querySelector("input[type=file]");
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
