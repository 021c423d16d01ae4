/* Shows what a form would give while it is being filled in: a text's parts, a preview, a segment's counts. A form with
   data-live="ADDRESS" data-live-target="ID" is posted there a moment after each change, and the HTML that comes back
   (made by the same code that saves) replaces the content of the target. Without it the form's Update button does.
   With data-live-now it asks once as the page opens. */
"use strict";

for (const form of document.querySelectorAll("form[data-live]")) {
  const target = document.getElementById(form.dataset.liveTarget);
  let timer;
  let asked = 0;
  const ask = async () => {
    const mine = ++asked;
    target.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.dataset.live, {method: "POST", body: new FormData(form)});
      if (answer.ok && mine === asked) target.innerHTML = await answer.text();
    } finally {
      if (mine === asked) target.removeAttribute("aria-busy");
    }
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 350);
  };
  form.addEventListener("input", later);
  form.addEventListener("change", later);
  if ("liveNow" in form.dataset) ask();
}
