"""From Home to a live site in a real Chromium, with five values on the clipboard: clicks are counted.

Once with scripts and once without: the pages need none.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import wrong_credentials
from tests.browser.chromium import chromium
from tests.browser.steps import fill_in_connection, log_in, make_superuser
from tests.browser.sweep import Watch, check_accessibility, check_widths, look
from tests.installation import Installation

pytestmark = pytest.mark.browser

MOST_CLICKS = 10


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation() as running:
        make_superuser(running)
        yield running


@pytest.mark.parametrize("javascript", [True, False])
def test_a_site_goes_live_within_ten_clicks(installation: Installation, javascript: bool) -> None:
    company = "harbor" if javascript else "cedar"
    guest = "+17705550101" if javascript else "+17705550102"
    installation.sandbox.configure_company(company)
    clicks = 0
    troubles: list[str] = []
    with chromium() as browser:
        page: Any = browser.new_page(java_script_enabled=javascript)
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))

        def click(name: str, role: str = "button") -> None:
            nonlocal clicks
            clicks += 1
            page.get_by_role("main").get_by_role(role, name=name, exact=True).first.click()

        log_in(page, installation)
        click("Connect a client", "link")
        fill_in_connection(page, company=company, site_id=f"10000{len(company)}", guest=guest)
        click("Save and test")
        assert "4 of 5 tasks passed" in page.inner_text("main")
        click("1. Subscribe it")
        click("2. Send a test text")
        assert "All is green" in page.inner_text("main")
        click("Go live", "link")
        click("Go live")
        assert "is live." in page.inner_text("main")
    assert clicks <= MOST_CLICKS
    assert troubles == []
    assert any("Test from Loyalty SMS" in text for text in installation.sandbox.texts(company, guest))


def test_the_client_enters_its_keys_by_a_link(installation: Installation) -> None:
    """First with scripts, then without, on a phone; the address stays out of every Referer."""
    installation.create_site(site_id="2000001", client_name="Birch", state="DRAFT", tokens={}, campaigns=[])
    installation.sandbox.configure_company("birch")
    requests: list[Any] = []

    def enter(page: Any, label: str, text: str, answer: str) -> None:
        page.get_by_label(label, exact=True).fill(text)
        page.get_by_label(label, exact=True).press("Enter")
        page.get_by_text(answer).first.wait_for()

    with chromium() as browser:
        page: Any = browser.new_page()
        log_in(page, installation)
        page.goto(f"{installation.url}/admin/loyalty/site/?q=Birch")
        page.get_by_role("link", name="Birch").click()
        page.get_by_role("link", name="Activate", exact=True).first.click()
        page.get_by_role("link", name="Ask the client for the keys").click()
        page.get_by_label("Access to Annex Cloud", exact=True).uncheck()
        page.get_by_role("button", name="Make the link").click()
        address = page.get_by_role("status").locator("code").inner_text()
        with look(browser, "phone") as context:
            client: Any = context.new_page()
            watch = Watch(client)
            client.on("request", lambda request: requests.append(request))
            client.goto(address)
            client.get_by_role("button", name="Show: Attentive app key").click()
            field = client.get_by_label("Attentive app key", exact=True)
            assert field.get_attribute("type") == "text"
            enter(client, "Attentive app key", "app-birch-revoked", "The app key was refused")
            assert field.get_attribute("type") == "password" and field.input_value() == ""
            assert [*check_accessibility(client), *check_widths(client, (320, 390))] == []
            heard = watch.take()
            assert [*heard.errors, *heard.reports] == []
            referers = {request.all_headers().get("referer", "") for request in requests}
        with look(browser, "phone", java_script_enabled=False) as context:
            client = context.new_page()
            client.goto(address)
            assert not client.get_by_role("button", name="Show").count()
            enter(client, "Attentive app key", "app-birch", "Connected to Birch (birch)")
            enter(client, "Attentive legacy token", "legacy-birch", "Thank you")
            assert client.goto(address).status == 410
    assert f"{installation.url}/" in referers
    assert not [referer for referer in referers if "/keys/" in referer]


def test_each_wrong_credential_is_answered_with_its_remedy_at_once(installation: Installation) -> None:
    with chromium() as browser:
        page: Any = browser.new_page()
        log_in(page, installation)
        found = wrong_credentials.enter_all(page, installation)
    assert {what: result for what, result in found.items() if isinstance(result, str)} == {}
    assert max(found.values()) <= wrong_credentials.AT_ONCE
    assert len(found) == 12
