"""Twelve wrong credentials, as clients really send them: each must be answered with what to do, and at once."""

import time
from dataclasses import dataclass
from typing import Any

from attentive_integration.annex_cloud import encode_access_token
from tests.browser.steps import fill_in_connection
from tests.installation import Installation

# Seconds in which the remedy must be read.
AT_ONCE = 5.0

_ACCESS, _SOURCE, _APP, _LEGACY = "Access token or loyalty token", "Sign-up source ID", "App key", "Legacy token"


@dataclass(frozen=True)
class Wrong:
    """A value for a field of the Activate page, the button that shows that it is wrong, and words of the remedy."""

    what: str
    field: str
    value: str
    remedy: str
    button: str = ""


WRONG = (
    Wrong("an access token cut short", _ACCESS, "eyJsb3lhbHR5VG9rZW4i", "copy the whole token"),
    Wrong(
        "another site's access token", _ACCESS, encode_access_token("1000009", "loyalty-other"),
        "for site 1000009, not for 1000007",
    ),
    Wrong("another client's loyalty token", _ACCESS, "loyalty-maple", "check the loyalty token and the site ID"),
    Wrong("the app key in the place of the access token", _ACCESS, "app-harbor", "Attentive app key, not the"),
    Wrong("a name for a sign-up source", _SOURCE, "Loyalty flow", "copy the ID of your sign-up flow"),
    Wrong("an unknown sign-up source", _SOURCE, "999999", "sign-up source", "1. Subscribe it"),
    Wrong("the legacy token in the place of the app key", _APP, "legacy-harbor", "Attentive legacy token, not the"),
    Wrong("another client's app key", _APP, "app-maple", "Check that it was copied from the right Attentive account"),
    Wrong("a revoked app key", _APP, "app-harbor-revoked", "enter the key"),
    Wrong(
        "an app key without Write", _APP, "app-harbor-readonly", "Permissions, and set Write", "1. Subscribe it"
    ),
    Wrong("the app key in the place of the legacy token", _LEGACY, "app-harbor", "ask for a legacy token"),
    Wrong(
        "a revoked legacy token", _LEGACY, "legacy-harbor-revoked", "legacyapi@attentivemobile.com",
        "2. Send a test text",
    ),
)  # fmt: skip


def enter_all(page: Any, installation: Installation) -> dict[str, float | str]:
    """Connect a client well, then enter each wrong value; return the seconds to its remedy, or what was read."""
    sandbox = installation.sandbox
    sandbox.configure_company("harbor", site_id="1000007", sign_up_sources={"132109": "MARKETING"})
    sandbox.configure_company("maple", site_id="1000008")
    page.goto(f"{installation.url}/admin/loyalty/site/add/")
    fill_in_connection(page, company="harbor", site_id="1000007", guest="+17705550107")
    _press(page, page.get_by_role("main"), "Save and test")
    return {wrong.what: _enter(page, wrong) for wrong in WRONG}


def _enter(page: Any, wrong: Wrong) -> float | str:
    task = page.locator(".task").filter(has=page.get_by_label(wrong.field, exact=True))
    box = task.get_by_label(wrong.field, exact=True)
    if not box.is_visible():
        task.locator("summary").first.click()
    box.fill(wrong.value)
    before = time.monotonic()
    _press(page, task, "Save and test", "Replace and test", "Save and look")
    if wrong.button:
        before = time.monotonic()
        _press(page, page.get_by_role("main"), wrong.button)
    # On the task itself, not only in the message that goes with the next click.
    read = page.locator(".tasks").inner_text()
    return time.monotonic() - before if wrong.remedy in read else f"no “{wrong.remedy}” in: {read}"


def _press(page: Any, where: Any, *names: str) -> None:
    buttons = [where.get_by_role("button", name=name, exact=True) for name in names]
    button = next(found for found in buttons if found.count())
    with page.expect_navigation():
        button.first.click()
