/* Keeps a running job's bar up to date: asks data-poll every two seconds for {done, total, text, finished} and loads the
   page again when the job has ended. The text is announced at most once per tenth. Without it the Refresh link does. */
"use strict";

for (const box of document.querySelectorAll("[data-progress]")) {
  const bar = box.querySelector("progress");
  const text = box.querySelector("[data-progress-text]");
  const reload = box.querySelector("[data-progress-reload]");
  let tenth = -1;
  if (reload) reload.hidden = true;
  const ask = async () => {
    try {
      const answer = await fetch(box.dataset.poll, {headers: {Accept: "application/json"}});
      if (!answer.ok) throw new Error(answer.status);
      const job = await answer.json();
      bar.max = job.total || 1;
      bar.value = job.done;
      const now = Math.floor((10 * job.done) / (job.total || 1));
      text.setAttribute("aria-live", now === tenth ? "off" : "polite");
      tenth = now;
      text.textContent = job.text;
      if (job.finished) return location.reload();
    } catch {
      if (reload) reload.hidden = false;
    }
    setTimeout(ask, 2000);
  };
  setTimeout(ask, 1000);
}
