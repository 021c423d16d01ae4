/*
 * Looks at an open page of the pseudo-locale: `texts` are those of the rows, and it returns {cut, unmarked}. `cut` names
 * text that sticks out of its box or is cut off by it; `unmarked` is text outside ⟦brackets⟧ that is no row's.
 *
 * A box is what the eye sees as one: it has a border, a ground of its own, or cuts off what is too large.
 */
(texts) => {
  const cut = new Set();
  const unmarked = new Set();
  const WORD = /\p{L}{2}/u;
  // The same in every language: names, sizes, addresses, paths.
  const NAMES = /(?<![\p{L}])(UTC|[ECMP][SD]T|UTF-8|SHA-256|HTTP|SMS|SQLite|PostgreSQL|Annex Cloud|Attentive|[KMG]B|\S*\w[.:/@]\S*\w\S*|\/\w+)(?![\p{L}])/gu;
  // What is data wherever it stands: code, times, texts to members.
  const DATA = "code, pre, kbd, time, bdi, textarea, .environment, .sms, [data-placeholders]";
  const BLOCKS = /^(block|flex|grid|list-item|table|inline-block|inline-flex|flow-root)/;
  const rows = texts
    .sort((one, other) => other.length - one.length)
    .map((text) => new RegExp(`(?<![\\p{L}_])${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\p{L}_])`, "gu"));

  /** What is left of a text without the rows' own. */
  const left = (text) => {
    let rest = text.replace(/\s+/g, " ").trim();
    for (const row of rows) if (WORD.test(rest)) rest = rest.replace(row, " ");
    rest = rest.replace(NAMES, " ");
    return WORD.test(rest) ? rest.trim() : "";
  };
  const known = new Map();
  const unmarkedOf = (text) => {
    if (!WORD.test(text)) return "";
    if (!known.has(text)) known.set(text, left(text));
    return known.get(text);
  };
  const nameOf = (element) => element.tagName.toLowerCase() + (element.id ? "#" + element.id : "") + [...element.classList].map((one) => "." + one).join("");
  const isClipped = (element) => element && (getComputedStyle(element).clipPath !== "none" || isClipped(element.parentElement));
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !isClipped(element);
  const isBox = (style) =>
    style.overflowX !== "visible" || style.backgroundColor !== "rgba(0, 0, 0, 0)" ||
    ["Top", "Right", "Bottom", "Left"].every((side) => parseFloat(style[`border${side}Width`]) > 0);
  const excess = (inner, outer, scrollsDown) =>
    Math.max(outer.left - inner.left, inner.right - outer.right, scrollsDown ? 0 : outer.top - inner.top, scrollsDown ? 0 : inner.bottom - outer.bottom);

  // Whatever can be opened is looked at too.
  for (const details of document.querySelectorAll("details")) details.open = true;
  const drawer = document.querySelector(".sidebar[popover]");
  if (drawer && getComputedStyle(drawer).display === "none") drawer.showPopover();

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let block = null;
  let depth = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, style, noscript")) continue;

    // A text may hold tags; brackets are counted anew in each block that is not inside them.
    let around = parent;
    while (!BLOCKS.test(getComputedStyle(around).display)) around = around.parentElement;
    if (!(depth > 0 && block.contains(around))) [block, depth] = [around, 0];
    let outside = "";
    for (const letter of node.data) {
      if (letter === "⟦") depth += 1;
      else if (letter === "⟧") depth -= 1;
      else if (depth <= 0) outside += letter;
    }
    if (!isSeen(parent)) continue;
    const words = parent.closest(DATA) ? "" : unmarkedOf(outside);
    if (words) unmarked.add(`“${words}” in ${nameOf(parent)}`);

    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect();
    for (let box = parent; box !== document.body; box = box.parentElement) {
      const style = getComputedStyle(box);
      if (/^(inline|contents)$/.test(style.display) || !isBox(style)) continue;
      const over = excess(text, box.getBoundingClientRect(), /auto|scroll/.test(style.overflowY));
      // What scrolls on purpose says so to the keyboard.
      if (/auto|scroll/.test(style.overflowX) && box.tabIndex === 0) break;
      if (over > 1) cut.add(`${nameOf(box)}: “${node.data.trim().slice(0, 40)}” by ${Math.round(over)} px`);
      if (over > 1 || /fixed|sticky|absolute/.test(style.position)) break;
    }
  }
  // What stands in a control: its hint, or the choice that it shows.
  const pen = document.createElement("canvas").getContext("2d");
  for (const control of document.querySelectorAll("body input[placeholder], body select")) {
    if (!isSeen(control)) continue;
    const style = getComputedStyle(control);
    const text = control.tagName === "SELECT" ? control.selectedOptions[0]?.text.trim() ?? "" : control.value ? "" : control.placeholder;
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const over = pen.measureText(text).width - (control.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
    // A list that has all the width there is opens to its whole choices.
    if (over > 2 && !(control.tagName === "SELECT" && control.offsetWidth > 0.7 * innerWidth)) cut.add(`${nameOf(control)}: “${text.slice(0, 40)}” by ${Math.round(over)} px`);
  }
  // Names for screen readers, tooltips and hints are read too.
  for (const element of document.querySelectorAll("body [title], body [aria-label], body [placeholder], body input[type=submit]"))
    for (const text of [element.title, element.ariaLabel, element.placeholder, element.type === "submit" ? element.value : ""])
      if (text && !element.closest(DATA) && unmarkedOf(text.replace(/⟦.*⟧/su, " "))) unmarked.add(`“${text}” of ${nameOf(element)}`);
  return { cut: [...cut], unmarked: [...unmarked] };
}
