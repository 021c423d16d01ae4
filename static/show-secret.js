/* Shows and hides what is typed into a password field. Without it the button stays away, and the field works. */
"use strict";

for (const button of document.querySelectorAll("[data-show-secret]")) {
  const field = document.getElementById(button.dataset.showSecret);
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = field.type === "password";
    field.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  });
  // What is sent is a password, whatever was shown: the browser keeps no list of it.
  field.form.addEventListener("submit", () => { field.type = "password"; });
}
