"""Pictures of the dashboard, taken of the demo's data in a real Chromium.

python -m tests.browser.screenshots [FOLDER]   every page of the sidebar: light, dark and on a phone
python -m tests.browser.screenshots --readme   the nine pictures of the README, into docs/screenshots
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize

from tests.browser.chromium import chromium
from tests.installation import ROOT, Installation

_DESKTOP = ViewportSize(width=1280, height=800)
_PHONE = ViewportSize(width=390, height=844)
_README = ROOT / "docs" / "screenshots"

# A list as a client would send it, in columns with names of its own and with two rows to mend.
_LIST = (
    b"Mobile;E-Mail;First name;Tier;Points balance;Shoe size\n"
    b"(770) 555-0191;ada@example.com;Ada;Gold;1240;38\n"
    b"404-555-0192;grace@example.com;Grace;Silver;410;40\n"
    b"+1 212 555 0193;alan@example.com;Alan;Bronze;95;43\n"
    b"1.21255E+10;mend@example.com;Radia;Bronze;20;41\n"
    b"312 555 0194;ken@example.com;Ken;Platinum;2210;44\n"
    b"call me;linus@example.com;Linus;Bronze;5;45\n"
)


def main(arguments: list[str]) -> None:
    """Start an installation with the demo's data, log in with its one-time link, and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "var" / "screenshots")
    parser.add_argument("--readme", action="store_true", help="take the pictures of the README instead")
    options = parser.parse_args(arguments)
    with Installation(ENVIRONMENT_LABEL="DEMO") as installation, chromium() as browser:
        installation.manage("demo", "--seed")
        installation.manage("check_sites", "--site", "1000001", "--site", "1000002")
        installation.manage("run_campaigns")
        link = installation.run("demo", "--login-link").stdout.strip().splitlines()[-1]
        page = browser.new_page(viewport=_DESKTOP, color_scheme="light", locale="en-US")
        page.set_default_timeout(8000)
        page.goto(link)
        folder = _README if options.readme else options.folder
        folder.mkdir(parents=True, exist_ok=True)
        if options.readme:
            _take_readme(page, folder, installation)
        else:
            _take_every_page(browser, page, folder)
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
        page.set_input_files("input[type=file]", {"name": "spring list.csv", "mimeType": "text/csv", "buffer": _LIST})
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


def _take_every_page(browser: Browser, page: Page, folder: Path) -> None:
    links = page.locator("#sidebar a.nav-link")
    addresses = [
        (links.nth(n).locator("> span").first.inner_text(), links.nth(n).get_attribute("href") or "")
        for n in range(links.count())
    ]
    state, start = page.context.storage_state(), page.url
    for look, viewport, scheme in (
        ("light", _DESKTOP, "light"), ("dark", _DESKTOP, "dark"), ("phone", _PHONE, "light"),
    ):  # fmt: skip
        with browser.new_context(
            viewport=viewport, color_scheme=scheme, storage_state=state, base_url=start, locale="en-US"
        ) as context:
            view = context.new_page()
            for label, address in addresses:
                view.goto(address)
                name = re.sub(r"[^a-z]+", "-", label.lower()).strip("-")
                _take(view, folder / f"{name}-{look}.png", whole=True)


if __name__ == "__main__":
    main(sys.argv[1:])
