/* Lets a file be dropped on a [data-drop-zone] that holds an <input type="file">, and shows its name and size. */
"use strict";

for (const zone of document.querySelectorAll("[data-drop-zone]")) {
  const input = zone.querySelector('input[type="file"]');
  const name = zone.querySelector("[data-file-name]");
  const show = () => {
    const file = input.files[0];
    if (!file || !name) return;
    const size = file.size < 1048576 ? `${Math.ceil(file.size / 1024)} KB` : `${(file.size / 1048576).toFixed(1)} MB`;
    name.textContent = `${file.name} · ${size}`;
  };
  input.addEventListener("change", show);
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("is-over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.remove("is-over");
    });
  }
  zone.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      show();
    }
  });
}
