// Buttons that ask for a file. It comes back as the component's value, as JSON with name and
// content, and is saved by the browser; the server keeps no file.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-key]");
  if (button !== null) trigger("download", { key: button.dataset.key });
});
watch("value", () => {
  if (!props.value) return;
  const { name, content } = JSON.parse(props.value);
  props.value = ""; // the same file can be asked for again
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});
