"""Making and withdrawing the client's link: by whom, shown once, and how it stands on the Activate page."""

import re
from typing import Any

import pytest

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import client_links
from loyalty.client_links import Key
from loyalty.models import AccessToken, ClientLink, Site, SiteMembership
from tests.factories import make_site, make_token, make_user
from tests.loyalty.admin.pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

Role = SiteMembership.Role
Kind = AccessToken.Kind


def page(site: Site, name: str = "ask-client") -> str:
    return f"/admin/loyalty/site/{site.pk}/{name}/"


def address_in(answer: Any) -> str:
    found = re.search(r"http[^<\"]*(/keys/link_[\w-]+/)", answer.content.decode())
    return found[1] if found else ""


def test_only_who_may_activate_this_site_makes_and_withdraws_its_link() -> None:
    ours, theirs = make_site(state=Site.State.DRAFT), make_site()
    client_links.make(theirs, [Key.LOYALTY])
    support, manager = browser(make_user(ours, role=Role.SUPPORT)), browser(make_user(ours, role=Role.MANAGER))
    for data in ({"do": "make", "key": "LOYALTY"}, {"do": "withdraw"}):
        assert support.post(page(ours), data).status_code == 403
        assert manager.post(page(theirs), data).status_code == 404
    assert support.get(page(ours)).status_code == 403
    assert "Ask the client for the keys" not in text_of(support.get(page(ours, "activate")))
    assert ClientLink.objects.get().is_open
    assert manager.get(page(ours)).status_code == 200
    assert manager.post(page(ours), {"do": "something"}).status_code == 404


def test_the_missing_keys_are_ticked_and_the_link_is_shown_once() -> None:
    site = make_site(state=Site.State.DRAFT)
    make_token(site, Kind.LOYALTY, "loyalty-harbor")
    make_token(site, Kind.ATTENTIVE_APP, "app-harbor")
    make_token(site, Kind.ATTENTIVE_APP, "app-next", slot="NEXT")
    manager = browser(make_user(site, role=Role.MANAGER))
    form = manager.get(page(site)).content.decode()
    boxes = dict(re.findall(r'name="key" value="(\w+)"[^>]*?(checked|disabled|aria|>)', form))
    assert {key for key, found in boxes.items() if found == "checked"} == {
        "SIGN_UP_SOURCE", "WEBHOOK_SIGNING", "ATTENTIVE_LEGACY",
    }  # fmt: skip
    assert boxes["ATTENTIVE_APP"] == "disabled"
    assert "waits as the next token until it is promoted" in form
    shown = manager.post(page(site), {"do": "make", "key": ["LOYALTY", "ATTENTIVE_LEGACY"]})
    path = address_in(shown)
    assert browser(make_user()).get(path).status_code == 200
    link = ClientLink.objects.get(site=site)
    assert set(link.asked) == {"LOYALTY", "ATTENTIVE_LEGACY"}
    for name in ("ask-client", "activate", "credentials", "overview"):
        assert address_in(manager.get(page(site, name))) == ""
    assert "Choose at least one key" in text_of(manager.post(page(site), {"do": "make", "key": "INGEST"}))
    assert ClientLink.objects.get(site=site).is_open


def test_the_activate_page_says_how_the_link_stands(sandbox: SandboxProcess) -> None:
    sandbox.configure_company("harbor", refused=[])
    site = make_site(client_name="Harbor Goods")
    make_token(site, Kind.ATTENTIVE_APP, "app-old")
    manager = browser(make_user(site, role=Role.MANAGER))
    link, address = client_links.make(site, [Key.ATTENTIVE_APP, Key.ATTENTIVE_LEGACY], by=make_user(site))

    def card() -> str:
        text = text_of(manager.get(page(site, "activate")))
        return text[text.index("Keys from the client") : text.index("Without it a STOP")]

    for words in ("Waiting for the client", "Valid until", "not yet", "Not given", "Withdraw"):
        assert words in card(), words
    client_links.note_opened(link)
    assert "Opened by the client" in card() and "not yet" not in card()
    client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")
    assert "Given" in card() and "Waits as the next token" in card()
    assert queries_of(manager, page(site, "activate")) <= MOST_QUERIES
    assert queries_of(manager, page(site)) <= MOST_QUERIES
    answer = manager.post(page(site), {"do": "withdraw"}, follow=True)
    assert "it does not work any more" in text_of(answer)
    assert "Withdrawn" in card() and "Ask the client for the keys" in card()
    assert manager.get(address[address.index("/keys/") :]).status_code == 410
