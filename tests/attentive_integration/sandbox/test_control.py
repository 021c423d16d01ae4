"""The page and the control API."""

import pytest
from playwright.sync_api import expect

from attentive_integration.annex_cloud import decode_access_token
from tests.browser.chromium import chromium

ADA, GRACE = "+17705550101", "+17705550102"


def test_the_page_loads_nothing_from_elsewhere(ask):
    page = ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    text = page.data.decode()
    assert "http" not in text and "style=" not in text and "onclick" not in text
    for path in ("/sandbox/page/sandbox.css", "/sandbox/page/sandbox.js", "/sandbox/page/icon.svg"):
        assert path in text
        assert ask("GET", path).status == 200
    assert ask("GET", "/sandbox/page/../control.py").status == 404


def test_a_foreign_page_cannot_work_the_switches(sandbox, ask):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert ask("POST", "/sandbox/faults", {"kind": "reset_after"}, Content_Type=kind).status == 415
    assert sandbox.state()["faults"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sandbox/companies/harbor", {"colour": "red"}),
        ("/sandbox/companies/harbor", {"name": 5}),
        ("/sandbox/companies/harbor", {"refused": ["everything"]}),
        ("/sandbox/companies/harbor", {"refused": [[]]}),
        ("/sandbox/companies/harbor", {"webhook_url": "http://127.0.0.1:99999999/"}),
        ("/sandbox/companies/harbor", {"webhook_url": "ftp://127.0.0.1/"}),
        ("/sandbox/companies/har%20bor", {}),
        ("/sandbox/companies/harbor/subscribers", {"phones": ["7705550101"]}),
        ("/sandbox/companies/harbor/subscribers", {"phones": [ADA], "type": "ANY"}),
        ("/sandbox/companies/harbor/subscribers", {}),
        ("/sandbox/settings", {"duplicate_seconds": -1}),
        ("/sandbox/settings", []),
    ],
)
def test_a_wrong_order_is_refused_with_a_sentence(ask, path, body):
    answer = ask("POST", path, body)
    assert answer.status == 400
    assert answer.data["message"].endswith(".")


def test_the_access_token_of_a_company_is_shown(sandbox, company):
    made = sandbox.configure_company(company, site_id="1000001", loyalty_token="l-1")
    bundle = decode_access_token(made["access_token"])
    assert (bundle.site_id, bundle.loyalty_token) == ("1000001", "l-1")


def test_the_memory_keeps_the_latest_accepted_requests(sandbox, company, ask):
    sandbox.add_subscribers(company, [ADA])
    ask("POST", "/1/messages", {"to": ADA, "body": "Hi", "type": "TRANSACTIONAL"}, token=f"legacy-{company}")
    found = ask("GET", "/sandbox/ledger?kind=MESSAGE").data
    assert found["records"][-1] == sandbox.ledger("MESSAGE")[-1]


def test_screens_are_sent_again_only_when_something_changed(sandbox, company, ask):
    sandbox.add_subscribers(company, [ADA])
    ask("POST", "/1/messages", {"to": ADA, "body": "Hi", "type": "TRANSACTIONAL"}, token=f"legacy-{company}")
    whole = ask("GET", f"/sandbox/screens?company={company}").data
    assert [screen["address"] for screen in whole["screens"]] == [ADA]
    assert ask("GET", f"/sandbox/screens?version={whole['version']}").data == {"version": whole["version"]}


@pytest.mark.browser
def test_the_phones_and_the_switches_work_in_a_browser(sandbox, company, ask):
    sandbox.configure_company(company, name="Harbor Goods", double_opt_in=True)
    sandbox.add_subscribers(company, [ADA])
    token = f"legacy-{company}"
    with chromium() as browser:
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(sandbox.url)
        ask("POST", "/1/messages", {"to": ADA, "body": "<b>120</b> points", "type": "TRANSACTIONAL"}, token=token)
        phone = page.locator(f"[data-company={company}][data-phone='{ADA}']")
        expect(phone).to_contain_text("Harbor Goods: <b>120</b> points")
        page.get_by_label("Client").select_option(company)
        phone.get_by_role("button", name="STOP").click()
        expect(phone).to_contain_text("marketing: unsubscribed")
        ask(
            "POST", "/v1/subscriptions", {"user": {"phone": GRACE}, "signUpSourceId": "1"}, token=f"app-{company}"
        )  # fmt: skip
        other = page.locator(f"[data-company={company}][data-phone='{GRACE}']")
        other.get_by_role("button", name="Y").click()
        expect(other).to_contain_text("marketing: subscribed")
        page.get_by_label("What happens").select_option("status")
        page.get_by_label("To requests whose path begins").fill("/v1/me")
        page.get_by_role("button", name="Switch on").click()
        expect(page.locator("#faults li")).to_contain_text("/v1/me")
        assert ask("GET", "/v1/me", token=f"app-{company}").status == 500
        expect(page.locator("#faults li")).to_have_count(0, timeout=8_000)
        assert errors == []
    assert sandbox.phones(company)[ADA]["subscriptions"] == {"MARKETING": "UNSUBSCRIBED"}


def test_a_screen_keeps_its_latest_texts(sandbox, company):
    sandbox.add_subscribers(company, [ADA])
    for number in range(45):
        sandbox.reply(company, ADA, f"hello {number}")
    screen = sandbox.phones(company)[ADA]["screen"]
    assert [bubble["text"] for bubble in screen] == [f"hello {number}" for number in range(5, 45)]
