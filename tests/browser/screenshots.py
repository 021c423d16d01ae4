"""Pictures of the dashboard, taken of the demo's data in a real Chromium.

python -m tests.browser.screenshots [FOLDER]   every page: light, dark and on a phone
python -m tests.browser.screenshots --readme   the nine pictures of the README, into docs/screenshots
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium
from tests.browser.pages import FORMS, PAGES
from tests.browser.steps import LIST, fill_with_demo
from tests.browser.sweep import LOOKS, look, send_form
from tests.installation import ROOT, Installation

_README = ROOT / "docs" / "screenshots"


def main(arguments: list[str]) -> None:
    """Start an installation with the demo's data, log in with its one-time link, and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "var" / "screenshots")
    parser.add_argument("--readme", action="store_true", help="take the pictures of the README instead")
    options = parser.parse_args(arguments)
    folder = _README if options.readme else options.folder
    folder.mkdir(parents=True, exist_ok=True)
    with Installation(ENVIRONMENT_LABEL="DEMO") as installation:
        fill_with_demo(installation)
        link = installation.run("demo", "--login-link").stdout.strip().splitlines()[-1]
        rows = {} if options.readme else installation.run_module("tests.browser.furnishing")
        with chromium() as browser, look(browser, "light") as context:
            page = context.new_page()
            page.goto(link)
            if options.readme:
                _take_readme(page, folder, installation)
            else:
                _take_every_page(browser, page, folder, installation.url, rows)
    sys.stdout.write(f"The pictures are in {folder}.\n")


def _take(page: Page, path: Path, *, whole: bool = False) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    page.screenshot(path=path, full_page=whole, animations="disabled", caret="hide")


def _take_readme(page: Page, folder: Path, installation: Installation) -> None:
    def show(address: str) -> Callable[[], object]:
        return lambda: page.goto(f"{installation.url}/admin/{address}")

    def show_row(address: str, name: str = "") -> Callable[[], object]:
        """The page of the first row whose link has this name."""

        def opened() -> None:
            show(address)()
            links = page.locator("#result_list tbody th a")
            (links.filter(has_text=name) if name else links).first.click()

        return opened

    def upload() -> None:
        show("loyalty/importjob/add/?site=1000001")()
        page.set_input_files("input[type=file]", {"name": "spring list.csv", "mimeType": "text/csv", "buffer": LIST})
        page.get_by_role("button", name="Upload and match columns").click()
        page.wait_for_url(re.compile(r"/importjob/\d+/change/"))

    pictures = {
        "home": show(""),
        "sites": show("loyalty/site/"),
        "activate": _then(
            show_row("loyalty/site/", "Maple"),
            lambda: page.get_by_role("main").get_by_role("link", name="Activate", exact=True).first.click(),
        ),
        "members": show("loyalty/member/?site=1000001"),
        "import": upload,
        "campaign": show_row("messaging/campaign/?site=1000001", "Thanks"),
        "messages": show("messaging/message/?site=1000001&period=7d"),
        "message": show_row("messaging/message/?site=1000001&period=7d&state=REFUSED"),
        "segment": show_row("loyalty/segment/?site=1000001", "Gold"),
    }
    for name, open_page in pictures.items():
        open_page()
        _take(page, folder / f"{name}.png")


def _then(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        first()
        second()

    return both


def _take_every_page(browser: Browser, page: Page, folder: Path, url: str, rows: dict[str, Any]) -> None:
    state = page.context.storage_state()
    for look_name in LOOKS:
        with look(browser, look_name, state) as context:
            view = context.new_page()
            for name, address in PAGES.items():
                view.goto(url + address.format(**rows))
                _take(view, folder / f"{name}-{look_name}.png", whole=True)
            for name, form in FORMS.items():
                view.goto(url + PAGES[form.page].format(**rows))
                send_form(view, form)
                _take(view, folder / f"{name}-{look_name}.png", whole=True)


if __name__ == "__main__":
    main(sys.argv[1:])
