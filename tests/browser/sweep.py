"""One look at a page in a browser: what axe finds, what the console says, whether it scrolls sideways, its weight."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, TimeoutError, ViewportSize

from tests.browser.pages import STATUS, Sent

# The names of the looks, with width and height of the window and the colours the system asks for.
LOOKS = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "phone": (390, 844, "light")}
WIDTHS = (320, 390, 768, 1280)

_RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
_AXE = Axe()
_TEXTS = (Path(__file__).parent / "overflow.js").read_text()


@dataclass
class Heard:
    """What a page has reported since it was last asked."""

    errors: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    transferred: int = 0


class Watch:
    """Hears a page's console and its network; its cache is off, so that each page is weighed as at a first visit."""

    def __init__(self, page: Page) -> None:
        self.heard = Heard()
        self.page = page
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.heard.errors.append(str(error)))
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        network.on("Network.loadingFinished", self._loaded)

    def take(self) -> Heard:
        heard, self.heard = self.heard, Heard()
        return heard

    def _console(self, message: ConsoleMessage) -> None:
        # A page that answers 403 or 404 on purpose is reported under its own address.
        if message.type != "error" or message.location["url"] == self.page.url:
            return
        kind = self.heard.reports if "Content Security Policy" in message.text else self.heard.errors
        kind.append(message.text)

    def _loaded(self, event: dict[str, Any]) -> None:
        self.heard.transferred += int(event["encodedDataLength"])


@contextmanager
def look(browser: Browser, name: str, state: Any = None, **options: Any) -> Iterator[BrowserContext]:
    """Open a window of one of LOOKS, logged in as `state` says."""
    width, height, scheme = LOOKS[name]
    context = browser.new_context(
        viewport=ViewportSize(width=width, height=height), color_scheme=scheme, storage_state=state, locale="en-US",
        **options,
    )  # fmt: skip
    context.set_default_timeout(10_000)
    try:
        yield context
    finally:
        context.close()


def open_page(page: Page, url: str, name: str) -> list[str]:
    """Go to a page; return a sentence when it does not answer as it should."""
    answer = page.goto(url)
    status = answer.status if answer else 0
    return [] if status == STATUS.get(name, 200) else [f"answers {status}"]


def send_form(page: Page, form: Sent, translated: Callable[[str], str] | None = None) -> list[str]:
    """Fill in and send a form of the open page; return a sentence when the page does not say what it must.

    In another language labels, choices and buttons are `translated`, and what the page then says is not compared.
    """
    words = translated or str

    def label(text: str) -> str | re.Pattern[str]:
        # Pages capitalise the first letter of a label, which a translation may write small.
        return re.compile(f"^{re.escape(words(text))}$", re.IGNORECASE) if translated else text

    main = page.get_by_role("main")
    # The browser's own check would keep a wrong form from being sent, and a folded one is not to be filled in.
    page.evaluate("for (const form of document.forms) form.noValidate = true")
    page.evaluate("for (const part of document.querySelectorAll('main .task details')) part.open = true")
    where = main
    for name, value in form.fields.items():
        box = (main.locator(name) if name[0] in "#." else main.get_by_label(label(name), exact=True)).first
        where = box.locator("xpath=ancestor::form")
        if isinstance(value, bytes):
            box.set_input_files({"name": "list.csv", "mimeType": "text/csv", "buffer": value})
        elif value is True:
            box.check()
        elif box.evaluate("box => box.tagName") == "SELECT":
            box.select_option(str(value))
        else:
            box.fill(str(value))
    where.get_by_role("button", name=words(form.button), exact=True).first.click()
    if translated:
        page.wait_for_load_state("networkidle")
        return []
    try:
        main.get_by_text(form.sentence).first.wait_for()
    except TimeoutError:
        return [f"does not say “{form.sentence}” when its form is sent"]
    return []


def check_accessibility(page: Page) -> list[str]:
    """Return a line for each violation that axe finds in the open page."""
    found = _AXE.run(page, options=_RULES).response["violations"]
    return [
        f"{one['id']}: {' · '.join(' '.join(map(str, node['target'])) for node in one['nodes'][:3])}"
        f" ({len(one['nodes'])})"
        for one in found
    ]


def check_widths(page: Page, widths: tuple[int, ...] = WIDTHS) -> list[str]:
    """Return a line for each width at which the open page scrolls sideways, with what sticks out."""
    before = page.viewport_size or ViewportSize(width=1280, height=800)
    lines = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": before["height"]})
        wide, culprit = page.evaluate(_SIDEWAYS)
        if wide > width:
            lines.append(f"{wide} px at {width} px: {culprit}")
    page.set_viewport_size(before)
    return lines


def check_texts(page: Page, of_rows: list[str]) -> tuple[list[str], list[str]]:
    """Look at a page in the pseudo-locale: return what is cut off or sticks out, and what was not marked.

    `of_rows` are the texts that rows of the database have: data is no text of ours.
    """
    found = page.evaluate(_TEXTS, of_rows)
    return found["cut"], found["unmarked"]


_SIDEWAYS = """() => {
  const root = document.documentElement;
  let culprit = "";
  if (root.scrollWidth > root.clientWidth)
    for (const one of document.querySelectorAll("body *"))
      if (one.getBoundingClientRect().right > root.clientWidth + 1) culprit = one.tagName + "." + one.className;
  return [root.scrollWidth, culprit];
}"""
