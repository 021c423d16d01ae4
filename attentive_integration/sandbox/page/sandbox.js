// Shows the phones and works the switches of the sandbox. Everything that came from outside is set as text, never as HTML.
"use strict";

const REFRESH_MS = 1000;
// Figures that change without a new version, such as webhooks that were delivered, are read anew this often.
const WHOLE_EVERY = 5;
const WHY = {
  BRACES: "Dropped without a word: the text has a brace",
  DUPLICATE: "Dropped without a word: the same text again",
  LATE: "Event kept, but older than 12 hours: starts no journey",
  EVENT: "Event",
};
const byId = (id) => document.getElementById(id);
const cards = new Map();
let version = null;
let round = 0;
let kindsShown = false;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.message);
  return data;
}

async function change(method, path, body) {
  try {
    await ask(method, path, body);
    byId("trouble").hidden = true;
    version = null;
    await refresh();
  } catch (error) {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  }
}

// --- Phones ----------------------------------------------------------------------------------------------------------

function phoneCard(screen) {
  const path = `/sandbox/companies/${encodeURIComponent(screen.company)}/phones/${encodeURIComponent(screen.address)}/replies`;
  const answer = (text) => () => change("POST", path, { text });
  const card = {
    shown: "",
    who: element("p", { class: "who" }),
    bubbles: element("ol", { class: "screen", tabindex: "0", "aria-label": `Texts on ${screen.shown}`, "aria-live": "polite" }),
    yes: element("button", { type: "button", onclick: answer("Y") }, "Y"),
    stop: element("button", { type: "button", onclick: answer("STOP") }, "STOP"),
  };
  card.yes.setAttribute("aria-label", `Answer Y from ${screen.shown}`);
  card.stop.setAttribute("aria-label", `Answer STOP from ${screen.shown}`);
  card.root = element(
    "article",
    { class: "phone", "data-phone": screen.address, "data-company": screen.company },
    element("header", {}, element("h3", {}, screen.shown), card.who),
    card.bubbles,
    element("div", { class: "replies" }, card.yes, card.stop),
  );
  if (!screen.address.startsWith("+")) card.root.lastChild.hidden = true;
  return card;
}

function bubble(entry) {
  const made = element("li", { class: `bubble ${entry.side}` }, entry.why ? `${WHY[entry.why]} – ${entry.text}` : entry.text);
  if (entry.why && entry.why !== "EVENT") made.classList.add("dropped");
  if (Date.now() - entry.at < 3000) made.classList.add("fresh");
  if (entry.media_url) made.append(element("span", { class: "media" }, `Picture: ${entry.media_url}`));
  const at = new Date(entry.at);
  made.append(element("time", { datetime: at.toISOString() }, at.toLocaleTimeString()));
  return made;
}

function showPhones(screens) {
  const wanted = new Set();
  screens.forEach((screen, place) => {
    const key = `${screen.company} ${screen.address}`;
    wanted.add(key);
    if (!cards.has(key)) cards.set(key, phoneCard(screen));
    const card = cards.get(key);
    const shown = JSON.stringify(screen);
    if (card.shown !== shown) {
      card.shown = shown;
      const badges = Object.entries(screen.subscriptions).map(([type, status]) =>
        element("span", { class: `badge ${status}` }, `${type.toLowerCase()}: ${status.toLowerCase()}`));
      card.who.replaceChildren(screen.name, ...badges);
      card.bubbles.replaceChildren(...screen.screen.map(bubble));
      card.bubbles.scrollTop = card.bubbles.scrollHeight;
      card.yes.disabled = !Object.values(screen.subscriptions).includes("PENDING");
    }
    const standing = byId("phones").children[place];
    if (standing !== card.root) byId("phones").insertBefore(card.root, standing || null);
    if (card.bubbles.scrollTop === 0) card.bubbles.scrollTop = card.bubbles.scrollHeight;
  });
  for (const [key, card] of cards) {
    if (!wanted.has(key)) {
      card.root.remove();
      cards.delete(key);
    }
  }
  byId("empty").hidden = screens.length > 0;
}

// --- Switches --------------------------------------------------------------------------------------------------------

function showFaults(faults, kinds) {
  if (!kindsShown) {
    byId("fault-kind").replaceChildren(...Object.entries(kinds).map(([kind, words]) => element("option", { value: kind }, words)));
    kindsShown = true;
    showFaultFields();
  }
  byId("fault-count").textContent = faults.length;
  byId("clear-faults").hidden = faults.length === 0;
  byId("faults").replaceChildren(...faults.map((fault) => {
    const left = fault.times === null ? "until cleared" : `${fault.times - fault.fired} more`;
    const detail = fault.kind.startsWith("status") ? ` ${fault.status}` : fault.seconds ? ` ${fault.seconds} s` : "";
    const words = `${kinds[fault.kind]}${detail} · ${fault.path} · ${left}`;
    const off = element("button", { type: "button", onclick: () => change("DELETE", `/sandbox/faults/${fault.id}`) }, "Off");
    off.setAttribute("aria-label", `Switch off: ${words}`);
    return element("li", {}, element("span", {}, words), off);
  }));
}

function showFaultFields() {
  const kind = byId("fault-kind").value;
  for (const label of document.querySelectorAll("[data-for]")) label.hidden = !label.dataset.for.split(" ").includes(kind);
  byId("fault-form").path.closest("label").hidden = kind === "down";
}

function showCompanies(companies) {
  const select = byId("company");
  const known = new Set([...select.options].map((option) => option.value));
  for (const company of companies) {
    if (!known.has(company.key)) select.append(element("option", { value: company.key }, company.name));
  }
  const open = new Set([...document.querySelectorAll("#companies details[open]")].map((details) => details.dataset.key));
  byId("companies").replaceChildren(...companies.map((company) => {
    const hooks = company.webhooks;
    const rows = {
      "App key": company.tokens.app,
      "Legacy token": company.tokens.legacy,
      "Loyalty token": company.tokens.loyalty,
      "Access token": company.access_token || "set a site ID first",
      "Webhook": company.webhook_url || "none",
      "Delivered": `${hooks.delivered} · waiting ${hooks.waiting} · given up ${hooks.failed}`,
      ...(hooks.last_error ? { "Last trouble": hooks.last_error } : {}),
      ...company.counters,
    };
    const list = element("dl", { class: "tokens" });
    for (const [name, value] of Object.entries(rows)) list.append(element("dt", {}, name), element("dd", {}, String(value)));
    const details = element(
      "details",
      { "data-key": company.key },
      element("summary", {}, `${company.name} `, element("small", {}, `${company.people} people`)),
      list,
    );
    details.open = open.has(company.key);
    return details;
  }));
}

function showRules(settings) {
  const form = byId("rules-form");
  if (form.contains(document.activeElement)) return;
  form.limits.checked = Object.values(settings.limits).every((limit) => limit !== null);
  form.refuse.checked = settings.refuse_duplicates;
  form.duplicates.value = settings.duplicate_seconds;
}

// --- Keeping up ------------------------------------------------------------------------------------------------------

async function refresh() {
  const known = version === null || round % WHOLE_EVERY === 0 ? "" : version;
  round += 1;
  const company = byId("company").value;
  const state = await ask("GET", `/sandbox/screens?version=${known}&company=${encodeURIComponent(company)}`);
  version = state.version;
  if (!state.screens) return;
  byId("accepted").textContent = state.accepted.toLocaleString();
  byId("refused").textContent = state.refused_by_pace.toLocaleString();
  showPhones(state.screens);
  showFaults(state.faults, state.fault_kinds);
  showCompanies(state.companies);
  showRules(state.settings);
  byId("more").hidden = state.more === 0;
  byId("more").textContent = `${state.more} more phones got texts earlier. Choose a client to see only its phones.`;
}

async function keepUp() {
  try {
    await refresh();
    byId("connection").textContent = "Up to date";
    byId("connection").classList.remove("lost");
  } catch {
    byId("connection").textContent = "Not answering";
    byId("connection").classList.add("lost");
  }
  setTimeout(keepUp, REFRESH_MS);
}

byId("fault-kind").addEventListener("change", showFaultFields);
byId("clear-faults").addEventListener("click", () => change("DELETE", "/sandbox/faults"));
byId("company").addEventListener("change", () => {
  version = null;
  refresh().catch(() => {});
});
byId("fault-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { kind, path, times, chance, status, retry_after: retryAfter, seconds } = event.target;
  change("POST", "/sandbox/faults", {
    kind: kind.value,
    path: path.value,
    times: times.value ? Number(times.value) : null,
    probability: Number(chance.value || 100) / 100,
    status: Number(status.value),
    retry_after: retryAfter.value,
    seconds: Number(seconds.value),
  });
});
byId("rules-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const on = { SUBSCRIBE: 10, UNSUBSCRIBE: 5, SEGMENTS: 100, DEFAULT: 150 };
  const off = { SUBSCRIBE: null, UNSUBSCRIBE: null, SEGMENTS: null, DEFAULT: null };
  document.activeElement.blur();
  change("POST", "/sandbox/settings", {
    limits: form.limits.checked ? on : off,
    refuse_duplicates: form.refuse.checked,
    duplicate_seconds: Number(form.duplicates.value),
  });
});
byId("company-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { key, site_id: siteId } = event.target;
  change("POST", `/sandbox/companies/${encodeURIComponent(key.value.trim())}`, siteId.value ? { site_id: siteId.value.trim() } : {});
});
keepUp();
