/* Small conveniences of every page: "/" focuses the search, Esc and a click elsewhere close menus, copy buttons copy,
   an error summary gets the focus. Every page works without them. */
"use strict";

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.querySelector('[data-shortcut="/"]');
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      const hadFocus = menu.contains(document.activeElement);
      menu.open = false;
      if (hadFocus) menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const button = event.target.closest("[data-copy]");
  if (button) {
    const text = button.closest("[data-copyable]").querySelector("code, pre, textarea");
    const word = button.querySelector("[data-copied-word]");
    navigator.clipboard.writeText(text.value ?? text.textContent).then(() => {
      word.textContent = word.dataset.copiedWord;
    });
  }
});

document.addEventListener("DOMContentLoaded", () => {
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  }
  document.querySelector("[data-autofocus]")?.focus();
});
