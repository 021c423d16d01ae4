"""A person without a mouse: every step is a key, and each stop must show that it is in focus."""

from playwright.sync_api import Page

# More stops than this to the next thing wanted are no way to work.
_MOST_STOPS = 150

_FOCUSED = """() => {
  const one = document.activeElement;
  const label = one.labels && one.labels.length ? one.labels[0].innerText : "";
  const look = getComputedStyle(one);
  return {
    name: (one.getAttribute("aria-label") || label || one.textContent || one.value || "").trim(),
    seen: look.outlineStyle !== "none" || look.boxShadow !== "none",
    isBody: one === document.body,
  };
}"""


class Keyboard:
    """Moves through a page by Tab and types; `stops` counts the Tabs."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stops = 0
        # File dialogs are caught from the start: asked for with the key itself, the browser may open one before.
        page.on("filechooser", lambda _chooser: None)

    def go_to(self, name: str, *, exact: bool = True) -> None:
        """Tab on until the thing of this name is in focus; begins with the link that skips the menu."""
        for _ in range(_MOST_STOPS):
            self.page.keyboard.press("Tab")
            self.stops += 1
            focused = self.page.evaluate(_FOCUSED)
            found = focused["name"]
            if not focused["isBody"]:
                assert focused["seen"], f"“{found}” does not show that it is in focus"
            if found == name or (not exact and name in found):
                return
        raise AssertionError(f"No Tab leads to “{name}” on {self.page.url}")

    def skip_menu(self) -> None:
        """Use the page's first link: past the menu, to the main part."""
        self.go_to("Skip to main content")
        self.page.keyboard.press("Enter")

    def press(self, name: str) -> None:
        """Go to a link or a button and press it; the next page begins at its top."""
        self.go_to(name)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def type(self, name: str, text: str) -> None:
        """Go to a field and write over what stands in it."""
        self.go_to(name)
        self.page.keyboard.press("ControlOrMeta+a")
        if text:
            self.page.keyboard.insert_text(text)
        else:
            self.page.keyboard.press("Delete")

    def tick(self, name: str) -> None:
        self.go_to(name)
        self.page.keyboard.press("Space")

    def choose_file(self, name: str, file: str) -> None:
        """Open the file dialog of a field and choose a file; the dialog itself is the browser's."""
        self.go_to(name)
        with self.page.expect_file_chooser() as waiting:
            self.page.keyboard.press("Space")
        waiting.value.set_files(file)
