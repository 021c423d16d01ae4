"""The measured goals of the dashboard: every page in a real Chromium, with the demo's data and with none.

python -m tests.browser.measure     ends with a table; the exit code is 1 when a goal is missed
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as BrowserError

from attentive_integration.embedded_broker import EmbeddedBroker
from tests.browser import wrong_credentials
from tests.browser.chromium import chromium
from tests.browser.core_tasks import CoreTasks
from tests.browser.pages import FORMS, PAGES, Sent
from tests.browser.pseudo_locale import installation_in_pseudo, lengthened
from tests.browser.steps import PASSWORD, SUPPORT, fill_with_demo, log_in, make_superuser
from tests.browser.sweep import (
    LOOKS,
    WIDTHS,
    Watch,
    check_accessibility,
    check_texts,
    check_widths,
    look,
    open_page,
    send_form,
)
from tests.installation import Installation

MOST_BYTES = 300_000
MOST_QUERIES = 15
MOST_CLICKS = 3

ANSWERS = "pages and forms that answer otherwise than they should"
AXE = "axe-core violations (A, AA, 2.2 AA, best practice)"
CONSOLE = "console errors"
REPORTS = "CSP reports"
SIDEWAYS = f"pages that scroll sideways at {', '.join(map(str, WIDTHS))} px"
HEAVY = f"pages over {MOST_BYTES // 1000} KB transferred"
QUERIES = f"pages over {MOST_QUERIES} queries"
REMEDIES = f"wrong credentials without their remedy in {wrong_credentials.AT_ONCE:.0f} s"
CUT = "pages with texts cut off or sticking out in the pseudo-locale, 390 and 1280 px"
UNMARKED = "pages with texts that were not marked for translation"
SUPPORTED = f"pages more than {MOST_CLICKS} clicks from a customer's last text and its reason"
KEYBOARD = "core tasks that fail by keyboard alone"
SCRIPTLESS = "core tasks that fail by keyboard alone and without JavaScript"
GOALS = (
    ANSWERS,
    AXE,
    CONSOLE,
    REPORTS,
    SIDEWAYS,
    CUT,
    UNMARKED,
    HEAVY,
    QUERIES,
    REMEDIES,
    SUPPORTED,
    KEYBOARD,
    SCRIPTLESS,
)


@dataclass
class Score:
    """How often a goal was looked at, what missed it, and the worst that was seen."""

    looks: int = 0
    misses: list[str] = field(default_factory=list)
    worst: str = ""


class Scores:
    """The scores by goal. Plain data, so that processes can hand theirs over."""

    def __init__(self) -> None:
        self.by_goal = {goal: Score() for goal in GOALS}

    def note(self, goal: str, where: str, misses: list[str]) -> None:
        score = self.by_goal[goal]
        score.looks += 1
        score.misses += [f"{where}: {miss}" for miss in misses]

    def add(self, other: "Scores") -> None:
        for goal, score in other.by_goal.items():
            mine = self.by_goal[goal]
            mine.looks += score.looks
            mine.misses += score.misses
            mine.worst = max(mine.worst, score.worst, key=lambda text: float(text.split()[0]) if text else -1.0)


def main() -> int:
    """Measure everything, write the table, and return the exit code."""
    scores = Scores()
    with Installation(ENVIRONMENT_LABEL="DEMO") as demo, Installation() as empty:
        fill_with_demo(demo)
        rows = demo.run_module("tests.browser.furnishing")
        make_superuser(empty)
        addresses = {name: address.format(**rows) for name, address in PAGES.items()}
        count_queries(demo, addresses, scores)
        sweeps = [
            *((demo.url, "", name, addresses, FORMS) for name in LOOKS),
            *((empty.url, "empty ", name, of_nobody(), {}) for name in LOOKS),
        ]
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            for result in pool.map(sweep, sweeps):
                scores.add(result)
        # The same lists once more with a client that has nothing yet.
        empty.create_site(state="DRAFT", campaigns=[], segments=[], action_types=[], tokens={})
        of_a_draft = {name: PAGES[name] for name in PAGES if "1000001" in PAGES[name] and "{" not in PAGES[name]}
        scores.add(sweep((empty.url, "draft ", "phone", of_a_draft, {})))
        with chromium() as browser:
            support_customers(browser, demo, addresses, str(rows["phone"]), scores)
            enter_wrong_credentials(browser, empty, scores)
    read_pseudo_locale(scores)
    do_core_tasks(scores)
    say_all(scores)
    return 1 if any(score.misses for score in scores.by_goal.values()) else 0


def count_queries(installation: Installation, addresses: dict[str, str], scores: Scores) -> None:
    counts = installation.run_module("tests.browser.queries", "\n".join(addresses.values()))
    for name, address in addresses.items():
        number = counts[address]
        scores.note(QUERIES, name, [f"{number} queries"] if number > MOST_QUERIES else [])
    scores.by_goal[QUERIES].worst = f"{max(counts.values())} queries"


def sweep(task: tuple[str, str, str, dict[str, str], dict[str, Sent]]) -> Scores:
    """Go through the pages and forms of an installation in one look. Runs in a process of its own."""
    url, data, look_name, addresses, forms = task
    scores = Scores()
    with chromium() as browser:
        state = _session(browser, url)
        with look(browser, look_name, state) as context:
            page = context.new_page()
            watch = Watch(page)
            for name, address in addresses.items():
                wrong = open_page(page, url + address, name)
                _check(page, watch, f"{data}{name}, {look_name}", wrong, scores)
            for name, form in forms.items():
                wrong = open_page(page, url + addresses[form.page], form.page)
                watch.take()
                wrong += send_form(page, form)
                _check(page, watch, f"{data}{name}, {look_name}", wrong, scores, weigh=False)
        with look(browser, look_name) as context:
            page = context.new_page()
            watch = Watch(page)
            for name in log_in_and_out(page, url, f"nobody-{look_name}"):
                _check(page, watch, f"{data}{name}, {look_name}", [], scores)
    return scores


def _session(browser: Browser, url: str) -> Any:
    """Log in and return what the browser keeps of it."""
    page = browser.new_page()
    page.goto(f"{url}/admin/")
    _log_in(page, "root", PASSWORD)
    page.get_by_role("navigation", name="Main").wait_for()
    state = page.context.storage_state()
    page.context.close()
    return state


def _log_in(page: Page, name: str, password: str, translated: Callable[[str], str] = str) -> None:
    page.get_by_label(translated("Username")).fill(name)
    page.get_by_label(translated("Password")).fill(password)
    page.get_by_role("button", name=translated("Log in")).click()


def log_in_and_out(page: Page, url: str, nobody: str) -> Iterator[str]:
    """Pause on each page that is seen without a log-in, and yield its name."""
    page.goto(f"{url}/admin/")
    yield "log-in"
    _log_in(page, nobody, "wrong")
    page.get_by_role("alert").wait_for()
    yield "log-in-wrong"
    _log_in(page, "root", PASSWORD)
    page.get_by_role("main").get_by_role("heading", name="Home").wait_for()
    page.evaluate("document.getElementById('logout-form').submit()")
    page.get_by_role("heading", name="You are logged out").wait_for()
    yield "logged-out"


def _check(page: Page, watch: Watch, where: str, wrong: list[str], scores: Scores, *, weigh: bool = True) -> None:
    scores.note(ANSWERS, where, wrong)
    if wrong:
        return
    weight = watch.heard.transferred
    scores.note(AXE, where, check_accessibility(page))
    scores.note(SIDEWAYS, where, check_widths(page))
    heard = watch.take()
    scores.note(CONSOLE, where, heard.errors)
    scores.note(REPORTS, where, heard.reports)
    if weigh:
        scores.note(HEAVY, where, [f"{weight // 1000} KB"] if weight > MOST_BYTES else [])
        heaviest = scores.by_goal[HEAVY]
        heaviest.worst = f"{max(weight // 1000, int(heaviest.worst.split()[0]) if heaviest.worst else 0)} KB"


def read_pseudo_locale(scores: Scores) -> None:
    """Go through all pages and forms in a language of longer words: with the demo's data, and with none."""
    with installation_in_pseudo(ENVIRONMENT_LABEL="DEMO") as demo, installation_in_pseudo() as empty:
        fill_with_demo(demo)
        rows = demo.run_module("tests.browser.furnishing")
        make_superuser(empty)
        addresses = {name: address.format(**rows) for name, address in PAGES.items()}
        for look_name in ("light", "phone"):
            _read(demo, addresses, FORMS, look_name, demo.run_module("tests.browser.row_texts"), scores)
            _read(empty, of_nobody(), {}, look_name, ["root", "Gold"], scores)


def of_nobody() -> dict[str, str]:
    """Return the pages that name no row: those that an empty installation has."""
    return {
        name: address
        for name, address in PAGES.items()
        if "{" not in address and "100000" not in address and name != "demo"
    }


def _read(
    installation: Installation, addresses: dict[str, str], forms: dict[str, Sent], look_name: str, of_rows: list[str],
    scores: Scores,
) -> None:  # fmt: skip
    def check(where: str, wrong: list[str]) -> None:
        scores.note(ANSWERS, where, wrong)
        cut, unmarked = check_texts(page, of_rows)
        scores.note(CUT, where, cut)
        scores.note(UNMARKED, where, unmarked)
        scores.note(SIDEWAYS, where, check_widths(page, (page.viewport_size["width"],)))

    with chromium() as browser, look(browser, look_name) as context:
        page = context.new_page()
        page.goto(f"{installation.url}/admin/")
        check(f"log-in, {look_name}", [])
        _log_in(page, "root", PASSWORD, lengthened)
        for name, address in addresses.items():
            check(f"{name}, {look_name}", open_page(page, installation.url + address, name))
        for name, form in forms.items():
            wrong = open_page(page, installation.url + addresses[form.page], form.page)
            check(f"{name}, {look_name}", wrong + send_form(page, form, lengthened))


def support_customers(
    browser: Browser, demo: Installation, addresses: dict[str, str], phone: str, scores: Scores
) -> None:
    """From each page that support may open: the phone into the search box, one press of Enter, and read."""
    with look(browser, "light") as context:
        page = context.new_page()
        page.goto(f"{demo.url}/admin/")
        _log_in(page, SUPPORT, PASSWORD)
        page.get_by_role("navigation", name="Main").wait_for()
        for name, address in addresses.items():
            if address.startswith("/keys/"):
                # The client's page leads nowhere else.
                continue
            answer = page.goto(demo.url + address)
            if answer and answer.status == 200:
                scores.note(SUPPORTED, name, _find_reason(page, phone))
    scores.by_goal[SUPPORTED].worst = "1 press"


def _find_reason(page: Page, phone: str) -> list[str]:
    page.get_by_label("Find a phone, an e-mail, a loyalty ID or a message").fill(phone)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    main = page.get_by_role("main")
    read = main.inner_text()
    return [] if "Thanks for your purchase" in read and "Not sent: not subscribed" in read else [read[:200]]


def enter_wrong_credentials(browser: Browser, installation: Installation, scores: Scores) -> None:
    page = browser.new_page()
    log_in(page, installation)
    results = wrong_credentials.enter_all(page, installation)
    for what, found in results.items():
        late = isinstance(found, float) and found > wrong_credentials.AT_ONCE
        scores.note(
            REMEDIES, what, [f"after {found:.1f} s" if late else str(found)] if late or isinstance(found, str) else []
        )
    slowest = max((found for found in results.values() if isinstance(found, float)), default=0.0)
    scores.by_goal[REMEDIES].worst = f"{slowest:.1f} s"


def do_core_tasks(scores: Scores) -> None:
    """The five tasks by keyboard, in an installation with a worker: once with scripts and once without."""
    with (
        tempfile.TemporaryDirectory(prefix="loyalty-sms-broker-") as folder,
        EmbeddedBroker(Path(folder)) as broker,
        Installation(REDIS_URL=broker.url) as installation,
        chromium() as browser,
    ):
        make_superuser(installation)
        queues = "celery,send,import,export,webhook"
        installation.start("-m", "celery", "-A", "attentive_integration", "worker", "-c", "1", "-Q", queues)
        for goal, company, site_id, phone in (
            (KEYBOARD, "harbor", "1000001", "+17705550101"), (SCRIPTLESS, "cedar", "1000002", "+17705550102"),
        ):  # fmt: skip
            page = browser.new_page(java_script_enabled=goal == KEYBOARD, accept_downloads=True)
            page.set_default_timeout(15_000)
            log_in(page, installation)
            tasks = CoreTasks(page, installation, company, site_id, phone)
            for name, task in tasks.tasks.items():
                scores.note(goal, name, _trouble_of(task))
            scores.by_goal[goal].worst = f"{tasks.keys.stops} Tabs in all"


def _trouble_of(task: Any) -> list[str]:
    try:
        task()
    except (AssertionError, BrowserError) as error:
        return [str(error).splitlines()[0]]
    return []


def say_all(scores: Scores) -> None:
    """Write each miss, and then the table."""
    write = sys.stdout.write
    for goal, score in scores.by_goal.items():
        for miss in score.misses:
            write(f"{goal}: {miss}\n")
    write(f"\n{'goal':<76} {'looks':>6} {'missed':>7}  most\n")
    for goal, score in scores.by_goal.items():
        write(f"{goal:<76} {score.looks:>6} {len(score.misses):>7}  {score.worst}\n")


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    sys.exit(code)
