/* Shows how far an upload is: sends form[data-upload] itself and follows the address that the server answers, or shows
   its errors. Without it the browser sends the form. */
"use strict";

for (const form of document.querySelectorAll("form[data-upload]")) {
  const box = form.querySelector("[data-upload-progress]");
  const bar = box.querySelector("progress");
  const text = box.querySelector("[data-upload-text]");
  const trouble = form.querySelector("[data-upload-error]");
  const button = form.querySelector('button[type="submit"]');
  const fail = (lines) => {
    box.hidden = true;
    button.disabled = false;
    trouble.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), {textContent: line})));
    trouble.hidden = false;
    trouble.tabIndex = -1;
    trouble.focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    let shown = -1;
    trouble.hidden = true;
    box.hidden = false;
    button.disabled = true;
    request.upload.addEventListener("progress", (step) => {
      const percent = Math.floor((100 * step.loaded) / step.total);
      bar.max = step.total;
      bar.value = step.loaded;
      if (percent >= shown + 10 || percent === 100) {
        shown = percent;
        text.textContent = percent < 100 ? text.dataset.words.replace("{percent}", percent) : text.dataset.reading;
      }
    });
    request.addEventListener("load", () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = null;
      }
      if (answer && answer.url) location.assign(answer.url);
      else fail(answer && answer.errors ? answer.errors : [text.dataset.failed]);
    });
    request.addEventListener("error", () => fail([text.dataset.failed]));
    request.open("POST", form.action || location.href);
    request.setRequestHeader("Accept", "application/json");
    request.send(new FormData(form));
  });
}
