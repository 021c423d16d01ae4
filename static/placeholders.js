/* Turns the list of placeholders beside a text into buttons that write one at the cursor. Without it they can be typed. */
"use strict";

for (const box of document.querySelectorAll("[data-placeholders]")) {
  const target = box.closest("form").querySelector("[data-placeholder-target]");
  for (const code of box.querySelectorAll("[data-placeholder]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button-small";
    button.textContent = code.dataset.placeholder;
    button.addEventListener("click", () => {
      target.setRangeText(`{{ ${code.dataset.placeholder} }}`, target.selectionStart, target.selectionEnd, "end");
      target.dispatchEvent(new Event("input", {bubbles: true}));
      target.focus();
    });
    code.replaceWith(button);
  }
}
