"""The list of pages is whole, and some of them are measured; `make pages` measures all of them."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from loyalty.admin.base import SiteScopedAdmin
from messaging.demo import seed
from tests.browser.chromium import chromium
from tests.browser.furnishing import furnish
from tests.browser.pages import FORMS, PAGES
from tests.browser.steps import PASSWORD
from tests.browser.sweep import Watch, check_accessibility, check_widths, look, open_page, send_form

# Addresses that show no page of their own.
NO_PAGES = {
    # Seen by who is not logged in: `measure.log_in_and_out` goes there.
    "login", "logout",
    # Send elsewhere, or are the admin's own data and scripts.
    "app_list", "autocomplete", "jsi18n", "view_on_site",
    # Files.
    "loyalty_auditentry_download",
    "loyalty_exportjob_download", "loyalty_importjob_rows", "loyalty_importjob_sample", "loyalty_site_export",
    # Asked for or posted to by a page on the list.
    "loyalty_exportjob_progress", "loyalty_importjob_dialect", "loyalty_importjob_import", "loyalty_importjob_look",
    "loyalty_importjob_progress", "loyalty_segment_count", "messaging_campaign_preview", "system_run",
}  # fmt: skip

# One of each kind: a list, a story, an editor, a builder, a step of the wizard, a task list, a form of the admin.
SOME_PAGES = ("home", "messages", "member", "import-match", "site-activate")
SOME_FORMS = ("campaign-bad-text",)


def test_the_list_has_every_page_of_the_dashboard() -> None:
    class Ones(dict[str, str]):
        def __missing__(self, name: str) -> str:
            return "1"

    addresses = [urlsplit(address.format_map(Ones())).path for address in PAGES.values()]
    listed = {resolve(path).url_name for path in addresses if path.startswith("/admin/")}
    missing = _names(get_resolver()) - listed - NO_PAGES - _closed()
    assert missing == set(), "Put these pages on the list in tests/browser/pages.py."
    assert all(form.page in PAGES for form in FORMS.values())


def _names(resolver: URLResolver, inside: bool = False) -> set[str]:
    """Return the names of the admin's addresses."""
    names: set[str] = set()
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver):
            names |= _names(one, inside or one.namespace == "admin")
        elif isinstance(one, URLPattern) and inside and one.name:
            names.add(one.name)
    return names


def _closed() -> set[str]:
    """Return what the admin has for each model and ours keeps shut; its page of a history is listed for users."""
    closed = set()
    for model, ours in admin.site._registry.items():
        if not isinstance(ours, SiteScopedAdmin):
            continue
        open_pages = {"add": ours.add_right, "delete": ours.delete_right, "action": ours.object_actions, "history": ()}
        closed |= {
            f"{model._meta.app_label}_{model._meta.model_name}_{name}"
            for name, right in open_pages.items()
            if not right
        }
    return closed


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_some_pages_on_a_phone_are_accessible_quiet_and_not_too_wide(live_server: Any, sandbox: Any) -> None:
    seed.fill()
    rows = furnish()
    found: list[str] = []

    def measure(name: str) -> None:
        misses = [*check_accessibility(page), *check_widths(page, (320, 768))]
        heard = watch.take()
        found.extend(f"{name}: {miss}" for miss in (*misses, *heard.errors, *heard.reports))

    with chromium() as browser, look(browser, "phone") as context:
        page = context.new_page()
        watch = Watch(page)
        page.goto(f"{live_server.url}/admin/")
        page.get_by_label("Username").fill("root")
        page.get_by_label("Password").fill(PASSWORD)
        measure("log-in")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("main").get_by_role("heading", name="Home").wait_for()
        for name in SOME_PAGES:
            found += open_page(page, live_server.url + PAGES[name].format(**rows), name)
            measure(name)
        for name in SOME_FORMS:
            form = FORMS[name]
            found += open_page(page, live_server.url + PAGES[form.page].format(**rows), form.page)
            found += send_form(page, form)
            measure(name)
    assert found == []
