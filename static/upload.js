// Drag, drop and paste for the image of /predict, with a preview. Without scripts its file input is all that is needed.

export function enableDrop() {
  const area = document.querySelector(".drop");
  if (!area) return;
  const input = area.querySelector("input[type=file]");
  const preview = area.querySelector("img");

  function show() {
    const [file] = input.files;
    URL.revokeObjectURL(preview.src);
    preview.hidden = !file;
    if (file) preview.src = URL.createObjectURL(file);
  }

  function take(files) {
    const image = [...files].find((file) => file.type.startsWith("image/"));
    if (!image) return;
    const transfer = new DataTransfer();
    transfer.items.add(image);
    input.files = transfer.files;
    show();
  }

  area.querySelector("[data-hint]").hidden = false;
  input.addEventListener("change", show);
  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => {
      event.preventDefault();
      area.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) area.addEventListener(kind, () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => take(event.clipboardData.files));
}
