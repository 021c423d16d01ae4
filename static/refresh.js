/* Keeps a part of a page fresh: loads the page again every data-refresh seconds, behind the scenes, and takes the part
   over when it has changed. It waits while the part is being used, and ends when the part does not ask any more. */
"use strict";

for (const part of document.querySelectorAll("[data-refresh][id]")) {
  const again = () => setTimeout(look, 1000 * Number(part.dataset.refresh));
  const look = async () => {
    if (part.contains(document.activeElement) || document.hidden) return again();
    try {
      const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
      if (answer.ok && !answer.redirected) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
        if (!fresh) return;
        if (fresh.innerHTML !== part.innerHTML) part.innerHTML = fresh.innerHTML;
        if (!fresh.dataset.refresh) return location.reload();
      }
    } catch {
      /* The network comes back or does not; the page stays as it is. */
    }
    again();
  };
  again();
}
