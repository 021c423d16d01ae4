"""The client's page: what it shows and to whom, that looking uses nothing up, and that the address does not leak."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.masking import MaskSecrets
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import client_links, tokens
from loyalty.client_links import Key
from loyalty.models import AccessToken, ClientLink, Site
from tests.factories import make_member, make_sign_up_source, make_site, make_token, make_user
from tests.loyalty.admin.pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

Kind = AccessToken.Kind
CLOSED = "Ask the person at Annex Cloud who sent it to you for a new one."


@pytest.fixture
def harbor(sandbox: SandboxProcess) -> SandboxProcess:
    sandbox.configure_company("harbor", double_opt_in=False, read_only=False, refused=[], sign_up_sources={})
    return sandbox


def made(*keys: str, **fields: Any) -> tuple[Site, str]:
    """Return a draft and the path of a link that asks for these keys of it."""
    site = make_site(client_name="Harbor Goods", state=Site.State.DRAFT, **fields)
    person = make_user(site)
    person.first_name, person.last_name = "Ana", "Annex"
    person.save()
    _link, address = client_links.make(site, keys or list(Key.values), by=person)
    return site, address[address.index("/keys/") :]


def test_the_page_shows_who_asks_for_what_and_nothing_else_of_the_site() -> None:
    site, path = made(guest_phones=["+17705550101"], notes="Renewal in May")
    member = make_member(site, email="ada@example.com")
    make_token(site, Kind.WEBHOOK_SIGNING, "signing-canary-31fe")
    make_sign_up_source(site, sign_up_source_id="4711")
    make_site(client_name="Somebody Else")
    answer = Client().get(path)
    text = text_of(answer)
    for words in ("Keys for Harbor Goods", "Ana Annex", "Valid until", "EST", "0 of 5 given", "Integrations tab"):
        assert words in text, words
    html = answer.content.decode()
    for hidden in ("Somebody Else", member.phone, "ada@example.com", "5550101", "31fe", "4711", "Renewal", '"/admin/'):
        assert hidden not in html, hidden
    assert queries_of(Client(), path) <= MOST_QUERIES
    assert "Messages need a token of their own" not in text_of(Client().get(made(Key.LOYALTY)[1]))


def test_the_address_does_not_leak_and_nothing_is_kept_in_a_cache() -> None:
    _site, path = made()
    for answer in (Client().get(path), Client().get("/keys/link_unknown/")):
        assert answer["Referrer-Policy"] == "strict-origin"
        assert "no-store" in answer["Cache-Control"]
        assert "default-src 'self'" in answer["Content-Security-Policy"]
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert answer["X-Frame-Options"] == "DENY"
    assert 'rel="noreferrer"' in Client().get(path).content.decode()


def test_no_log_of_ours_holds_the_token(caplog: pytest.LogCaptureFixture, settings: Any) -> None:
    _site, path = made()
    token = path.split("/")[2]
    client_links.withdraw(_site)
    caplog.handler.addFilter(MaskSecrets())
    with caplog.at_level(logging.INFO):
        assert Client().get(path).status_code == 410
        assert Client(enforce_csrf_checks=True).post(path).status_code == 403
    assert "/keys/[removed]/" in caplog.text and token not in caplog.text
    assert settings.LOGGING["loggers"]["django.server"]["handlers"] == ["console"]


def test_looking_uses_nothing_up_and_only_a_stranger_opens_the_link() -> None:
    site, path = made()
    link = ClientLink.objects.get(site=site)
    Client().head(path)
    browser(make_user(site)).get(path)
    link.refresh_from_db()
    assert link.opened_at is None
    for _again in range(3):
        assert Client().get(path).status_code == 200
    link.refresh_from_db()
    assert link.opened_at is not None and link.is_open and link.attempts == 0


def test_every_link_that_does_not_work_says_the_same() -> None:
    pages = {}
    for name in ("expired", "withdrawn", "finished", "replaced"):
        site, path = made()
        if name == "expired":
            ClientLink.objects.filter(site=site).update(expires_at=timezone.now() - timedelta(seconds=1))
        elif name == "withdrawn":
            client_links.withdraw(site)
        elif name == "finished":
            assert "Thank you" in text_of(Client().post(path, {"do": "finish"}))
        else:
            client_links.make(site, [Key.LOYALTY])
        for answer in (Client().get(path), Client().post(path, {"key": "LOYALTY", "secret": "loyalty-harbor"})):
            assert answer.status_code == 410, name
            pages[name] = answer.content
        assert not AccessToken.objects.filter(site=site).exists()
    for unknown in ("/keys/link_unknown/", "/keys/" + "x" * 500 + "/", "/keys/%00/"):
        answer = Client().get(unknown)
        assert answer.status_code == 404
        pages[unknown] = answer.content
    assert len(set(pages.values())) == 1
    assert CLOSED in pages["expired"].decode()
    assert "Harbor" not in pages["expired"].decode()


def test_a_forged_post_is_refused() -> None:
    site, path = made()
    forging = Client(enforce_csrf_checks=True)
    forging.get(path)
    assert forging.post(path, {"key": "LOYALTY", "secret": "loyalty-harbor"}).status_code == 403
    assert forging.post(path, {"do": "finish"}).status_code == 403
    assert ClientLink.objects.get(site=site).is_open and not AccessToken.objects.filter(site=site).exists()


def test_a_wrong_key_is_explained_and_a_right_one_says_whose_it_is(harbor: SandboxProcess) -> None:
    site, path = made(Key.ATTENTIVE_APP, Key.ATTENTIVE_LEGACY)
    client = Client()
    wrong = client.post(path, {"key": "ATTENTIVE_APP", "secret": "app-revoked"}, follow=True)
    assert "Refused" in text_of(wrong) and "Write permission" in text_of(wrong)
    assert "app-revoked" not in wrong.content.decode()
    right = client.post(path, {"key": "ATTENTIVE_APP", "secret": "app-harbor"}, follow=True)
    assert "Connected to Harbor (harbor), app Harbor loyalty." in text_of(right)
    assert "1 of 2 given" in text_of(right)
    # A field for the app key is not offered any more, and one that was not asked for does not exist.
    assert 'id="secret-attentive-app"' not in right.content.decode()
    client.post(path, {"key": "LOYALTY", "secret": "loyalty-harbor"})
    assert tokens.active(site, Kind.LOYALTY) is None
    done = client.post(path, {"key": "ATTENTIVE_LEGACY", "secret": "legacy-harbor"})
    assert "Thank you" in text_of(done) and "Ana Annex proves it with a test text" in text_of(done)
    assert client.get(path).status_code == 410
    assert tokens.token_secret(site, Kind.ATTENTIVE_APP) == "app-harbor"


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        (Key.ATTENTIVE_APP, "app-maple", "Ana Annex confirms it"),
        (Key.LOYALTY, encode_access_token("99", "loyalty-harbor"), "Copy the token of Harbor Goods"),
    ],
)
def test_the_remedy_is_one_that_the_client_can_use(harbor: SandboxProcess, key: str, secret: str, words: str) -> None:
    harbor.configure_company("maple")
    _site, path = made(key)
    text = text_of(Client().post(path, {"key": key, "secret": secret}, follow=True))
    assert words in text
    assert "keep it" not in text and "settings" not in text


def test_a_key_that_could_not_be_tested_may_be_entered_again(harbor: SandboxProcess, settings: Any) -> None:
    settings.ATTENTIVE_API_URL = "http://127.0.0.1:9"
    _site, path = made(Key.ATTENTIVE_APP)
    text = text_of(Client().post(path, {"key": "ATTENTIVE_APP", "secret": "app-harbor"}, follow=True))
    assert "could not be tested now" in text and "Ana Annex tests it" in text
    settings.ATTENTIVE_API_URL = harbor.url
    assert "Thank you" in text_of(Client().post(path, {"key": "ATTENTIVE_APP", "secret": "app-harbor"}))
