"""Home, search, System, set-up files and the frame around every page."""

import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from attentive_integration import rate_limit
from attentive_integration.models import Heartbeat
from loyalty import audit, consent, tokens
from loyalty import tasks as loyalty_tasks
from loyalty.admin.base import SiteScopedAdmin
from loyalty.models import AccessToken, Breaker, ImportJob, SendingStop, Site, SiteMembership
from tests.factories import (
    make_action,
    make_campaign,
    make_consent,
    make_member,
    make_message,
    make_sign_up_source,
    make_site,
    make_token,
    make_user,
)
from tests.loyalty.admin.pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

Role = SiteMembership.Role


@pytest.fixture
def root() -> Client:
    return browser(User.objects.create_superuser("root"))


# --- The frame --------------------------------------------------------------------------------------------------------


def test_a_page_has_its_landmarks_one_heading_and_nothing_inline(root: Client) -> None:
    make_site()
    for address in ("/admin/", "/admin/loyalty/site/", "/admin/system/", "/admin/search/", "/admin/password_change/"):
        answer = root.get(address)
        html = answer.content.decode()
        for once in ("<main", "<header", "<h1"):
            assert html.count(once) == 1, (address, once)
        assert "Skip to main content" in html
        assert " style=" not in html and "<style" not in html and " onclick=" not in html
        assert html.count("<script") == html.count("<script src=") + html.count('<script id="django-admin')
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy


def test_who_reads_french_gets_french(root: Client) -> None:
    page = root.get("/admin/", headers={"accept-language": "fr-FR,fr;q=0.9,en;q=0.5"})
    text = page.content.decode()
    assert '<html lang="fr"' in text and "Membres" in text and "Members" not in text


def test_the_sidebar_has_what_the_role_may_open_and_carries_the_site(root: Client) -> None:
    site = make_site(client_name="Harbor Goods")
    support = browser(make_user(site, role=Role.SUPPORT)).get("/admin/", {"site": site.site_id}).content.decode()
    assert f"/admin/loyalty/member/?site={site.site_id}" in support
    assert "/admin/system/" not in support and "/admin/auth/user/" not in support
    assert "Harbor Goods" in support
    whole = root.get("/admin/").content.decode()
    assert "/admin/system/" in whole and "/admin/auth/user/" in whole
    order = [
        whole.index(f'href="/admin/{part}/"')
        for part in (
            "loyalty/site", "loyalty/member", "loyalty/importjob", "messaging/campaign", "messaging/message",
            "loyalty/consent", "system", "loyalty/auditentry",
        )
    ]  # fmt: skip
    assert order == sorted(order)


def test_the_button_that_adds_keeps_the_chosen_site(root: Client) -> None:
    site = make_site()
    make_site()
    for name in ("loyalty/importjob", "loyalty/segment", "loyalty/exportjob", "messaging/campaign"):
        html = root.get(f"/admin/{name}/", {"site": site.site_id}).content.decode()
        assert f'href="/admin/{name}/add/?site={site.site_id}"' in html, name


def test_pages_load_no_script_that_they_do_not_use(root: Client) -> None:
    make_member(make_site())
    for address in ("loyalty/member/", "loyalty/sitemembership/add/", "auth/user/", "auth/user/add/"):
        html = root.get(f"/admin/{address}").content.decode()
        assert "jquery" not in html and "RelatedObjectLookups" not in html, address


def test_the_audit_trail_reads_in_words(root: Client) -> None:
    audit.record("import.complete", site=make_site(), actor="demo", old=None, new={"read": 6, "rejected": ["a", "b"]})
    audit.record("site.go_live", site=make_site(), actor="ada", target="*", old="TEST", new="LIVE")
    audit.record("coffee.made_strong", actor="ada", target="*")
    text = text_of(root.get("/admin/loyalty/auditentry/"))
    assert "Import: complete" in text and "read: 6 · rejected: a, b" in text
    assert "Site: went live" in text and "Test mode → Live" in text and "Coffee: made strong" in text


def test_an_audit_entry_has_a_page_that_its_row_leads_to(root: Client) -> None:
    note = "They asked us to wait. " * 20
    entry = audit.record("sending.stopped", site=make_site(), actor="ada", target="*", new={"note": note})
    page = f"/admin/loyalty/auditentry/{entry.pk}/change/"
    html = root.get("/admin/loyalty/auditentry/").content.decode()
    assert f'href="{page}"' in html and note.strip() not in html
    assert note.strip() in text_of(root.get(page))
    assert browser(make_user(make_site(), role=Role.ADMIN)).get(page).status_code == 404


def test_other_tenants_are_not_in_the_switcher_and_cannot_be_chosen() -> None:
    ours, theirs = make_site(), make_site(client_name="Somebody Else")
    client = browser(make_user(ours))
    assert "Somebody Else" not in client.get("/admin/").content.decode()
    for address in ("/admin/", "/admin/loyalty/site/", "/admin/search/", "/admin/loyalty/auditentry/"):
        assert client.get(address, {"site": theirs.site_id}).status_code == 404


def test_without_a_role_nobody_comes_in(client: Client) -> None:
    assert client.get("/admin/").status_code == 302
    answer = browser(make_user()).get("/admin/", follow=True)
    assert "may not open this page" in text_of(answer)


def test_the_environment_is_always_in_sight(root: Client, settings: Any) -> None:
    settings.ENVIRONMENT_LABEL = "staging"
    assert "STAGING" in root.get("/admin/").content.decode()
    assert "STAGING" in Client().get("/admin/login/").content.decode()


@pytest.mark.parametrize(("status", "address"), [(404, "/admin/nowhere/"), (404, "/admin/loyalty/site/77/overview/")])
def test_error_pages_lead_back(root: Client, status: int, address: str) -> None:
    answer = root.get(address)
    assert answer.status_code == status
    assert "Go to Home" in text_of(answer)


def test_a_form_without_its_token_and_a_request_too_large_are_explained(root: Client, settings: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert "The form has expired" in text_of(strict.post("/admin/login/", {}))
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    answer = root.post("/admin/loyalty/site/add/", {"client_name": "x" * 100})
    assert answer.status_code == 413
    assert "too large" in text_of(answer)


# --- Home -------------------------------------------------------------------------------------------------------------


def test_the_audit_trail_is_downloaded_as_the_list_shows_it(root: Client) -> None:
    ours, theirs = make_site(), make_site()
    audit.record("site.pause", site=ours, actor="=cmd|' /C calc'!A0", target="*", old="LIVE", new="PAUSED")
    audit.record("role.given", site=ours, actor="ada", target="*")
    audit.record("site.pause", site=theirs, actor="eve", target="*")
    admin_of_ours = browser(make_user(ours, role=Role.ADMIN))
    assert "/admin/loyalty/auditentry/download/?event=site.pause" in (
        admin_of_ours.get("/admin/loyalty/auditentry/?event=site.pause").content.decode()
    )
    answer = admin_of_ours.get("/admin/loyalty/auditentry/download/?event=site.pause")
    lines = b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()
    assert len(lines) == 2 and "'=cmd|" in lines[1] and "Live,Paused" in lines[1]
    assert audit.events().count("audit.downloaded") == 1


def test_an_error_has_a_number_that_the_log_has_too(root: Client, monkeypatch: Any, caplog: Any) -> None:
    root.raise_request_exception = False
    monkeypatch.setattr("attentive_integration.dashboard.attention.items", lambda *_: 1 / 0)
    text = text_of(root.get("/admin/"))
    number = text.split("error ")[1][:8]
    assert f"Error {number}, its traceback follows: GET /admin/" in caplog.text


def test_home_says_first_what_needs_a_person(root: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    now = timezone.now()
    site = make_site(client_name="Harbor Goods")
    make_site(
        client_name="Slow", state=Site.State.DRAFT, legacy_token_requested_at=now - timedelta(days=5), activated_at=None
    )
    make_site(client_name="Broken", checks={"ATTENTIVE_APP": {"state": "FAILED", "sentence": "Refused, replace it."}})
    Breaker.objects.create(site=site, token_kind="ATTENTIVE_LEGACY", opened_at=now, sentence="Refused (403).")
    member = make_member(site)
    make_message(member, state="UNKNOWN")
    make_message(member, state="QUEUED", due_at=now - timedelta(minutes=20))
    ImportJob.objects.create(site=site, state="COMPLETE", file_name="members.csv", rejected=3, ended_at=now)
    Heartbeat.objects.create(name="worker", beat_at=now - timedelta(minutes=10))
    text = text_of(root.get("/admin/"))
    for words in (
        "Harbor Goods: the Attentive legacy token is held", "Slow waits 5 days for its legacy token",
        "Broken: Attentive app key failed", "Refused, replace it.", "No worker has answered",
        "wait longer than 5 minutes",
        "Of 1 text it is not known", "members.csv: 3 rows were rejected",
    ):  # fmt: skip
        assert words in text
    assert text.index("is held") < text.index("3 rows were rejected")


def test_home_promises_no_time_for_who_cannot_be_asked(root: Client) -> None:
    for site in (make_site(client_name="Harbor Goods"), make_site(client_name="Maple")):
        make_consent(make_member(site), state="TO_ASK")
    assert "ready in a minute or so" in text_of(root.get("/admin/"))
    refused = Site.objects.get(client_name="Maple")
    Breaker.objects.create(site=refused, token_kind="ATTENTIVE_APP", opened_at=timezone.now(), sentence="Refused.")
    text = text_of(root.get("/admin/"))
    assert "not while Maple cannot be asked" in text and "ready in" not in text


def test_home_names_the_client_whose_texts_wait_for_a_legacy_token(root: Client) -> None:
    site, other = make_site(client_name="Harbor Goods"), make_site(client_name="Maple")
    make_message(make_member(site), state="HELD", reason="TOKEN_MISSING")
    make_message(make_member(other), state="HELD", reason="SITE_PAUSED")
    text = text_of(root.get("/admin/"))
    assert "1 text waits for the legacy token of Harbor Goods It was not asked for yet." in text
    assert "token of Maple" not in text
    asker = make_user(site)
    site.legacy_token_requested_at, site.legacy_token_requested_by = timezone.now(), asker
    site.save()
    assert f"by {asker.username}." in text_of(root.get("/admin/"))


def test_system_tells_when_scheduled_work_ran_and_how_it_ended(root: Client, monkeypatch: Any) -> None:
    def row(name: str) -> str:
        text = text_of(root.get("/admin/system/"))
        return text[text.index(name) :][:220]

    assert "never Not run yet" in row("Ask waiting members")
    loyalty_tasks.subscribe_waiting()
    assert "now Done" in row("Ask waiting members") and "seconds from now" in row("Ask waiting members")
    monkeypatch.setattr("loyalty.subscriptions.sites_with_waiting_members", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loyalty_tasks.subscribe_waiting()
    assert "Failed" in row("Ask waiting members") and "Not run yet" in row("Go on with imports")


def test_scheduled_work_is_run_on_request_by_developers(root: Client, settings: Any, monkeypatch: Any) -> None:
    woken: list[str] = []
    monkeypatch.setattr(sys.modules["attentive_integration.dashboard.system"], "wake", woken.append)
    assert "Run now" not in text_of(root.get("/admin/system/"))
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert "Run now" in text_of(root.get("/admin/system/"))
    task = {"task": "loyalty.tasks.resume_jobs"}
    assert "A worker was told" in text_of(root.post("/admin/system/run/", task, follow=True))
    assert woken == ["loyalty.tasks.resume_jobs"]
    assert root.post("/admin/system/run/", {"task": "os.system"}).status_code == 404
    assert browser(make_user(make_site())).post("/admin/system/run/", task).status_code == 403
    assert woken == ["loyalty.tasks.resume_jobs"]


def test_home_counts_only_the_users_sites() -> None:
    ours, theirs = make_site(), make_site(client_name="Somebody Else")
    for site, count in ((ours, 2), (theirs, 5)):
        campaign = make_campaign(site)
        for _ in range(count):
            make_message(make_member(site), campaign, state="REFUSED", reason="UNMATCHED")
    html = browser(make_user(ours)).get("/admin/").content.decode()
    assert "Somebody Else" not in html
    assert "2 in 7 days" in html and "5 in 7 days" not in html and "7 in 7 days" not in html
    assert "state=REFUSED" in html and "reason=UNMATCHED" in html


def test_home_tells_nothing_of_other_tenants_troubles() -> None:
    theirs, now = make_site(client_name="Somebody Else", checks={"ATTENTIVE_APP": {"state": "FAILED"}}), timezone.now()
    Breaker.objects.create(site=theirs, token_kind="ATTENTIVE_LEGACY", opened_at=now, sentence="Refused (403).")
    make_message(make_member(theirs), state="UNKNOWN")
    make_message(make_member(theirs), state="QUEUED", due_at=now - timedelta(minutes=20))
    ImportJob.objects.create(site=theirs, state="RUNNING", file_name="running.csv", lease_until=now)
    ImportJob.objects.create(site=theirs, state="COMPLETE", file_name="ended.csv", rejected=3, ended_at=now)
    html = browser(make_user(make_site())).get("/admin/").content.decode()
    for words in ("Somebody Else", "running.csv", "ended.csv", "it is not known", "nav-badge"):
        assert words not in html, words


@pytest.mark.parametrize("count", [1, 3])
def test_home_system_and_search_ask_few_queries(count: int) -> None:
    sites = [make_site() for _ in range(count)]
    for site in sites:
        for _ in range(count + 1):
            make_message(make_member(site, email="same@example.com"), state="HELD", reason="TOKEN_REFUSED")
    client = browser(make_user(*sites, role=Role.ADMIN))
    for address in (
        "/admin/", f"/admin/?site={sites[0].site_id}", "/admin/search/?q=same@example.com", "/admin/system/",
        f"/admin/loyalty/site/{sites[0].pk}/overview/", "/admin/loyalty/auditentry/", "/admin/loyalty/consent/queue/",
    ):  # fmt: skip
        assert queries_of(client, address) <= MOST_QUERIES, address


# --- Search -----------------------------------------------------------------------------------------------------------


def test_search_finds_a_member_by_any_spelling_and_goes_there(root: Client) -> None:
    member = make_member(make_site(), phone="+17705550123", email="ada@example.com", external_id="L-77")
    make_member(make_site())
    for text in ("(770) 555-0123", "770.555.0123", "+1 770 555 0123", "ada@example.com", "ADA@example.com", "L-77"):
        answer = root.get("/admin/search/", {"q": text})
        assert answer.status_code == 302, text
        assert f"/admin/loyalty/member/{member.pk}/" in answer["Location"]


def test_search_finds_messages_sites_and_numbers_that_are_no_members(root: Client) -> None:
    site = make_site(client_name="Harbor Goods")
    message = make_message(make_member(site))
    assert f"/admin/messaging/message/{message.pk}/" in root.get("/admin/search/", {"q": f"#{message.pk}"})["Location"]
    assert f"/{site.pk}/overview/" in root.get("/admin/search/", {"q": site.site_id})["Location"]
    consent.opt_out(site, "+13035550199")
    text = text_of(root.get("/admin/search/", {"q": "3035550199"}))
    assert "Numbers that are no member's" in text and "Unsubscribed" in text


def test_search_shows_several_hits_and_says_when_there_is_none(root: Client) -> None:
    for site in (make_site(client_name="Harbor Goods"), make_site(client_name="Bluebird")):
        make_member(site, phone="+17705550123")
    text = text_of(root.get("/admin/search/", {"q": "7705550123"}))
    assert "Harbor Goods" in text and "Bluebird" in text
    assert "Nobody and nothing matches “<nobody>”".replace("<", "&lt;").replace(">", "&gt;") in text_of(
        root.get("/admin/search/", {"q": "<nobody>"})
    )
    assert "What are you looking for?" in text_of(root.get("/admin/search/"))


def test_search_leads_to_a_page_or_a_client_by_the_beginning_of_its_name(root: Client) -> None:
    make_site(client_name="Harbor Goods"), make_site(client_name="Harbor Light")
    assert root.get("/admin/search/", {"q": "expor"})["Location"] == "/admin/loyalty/exportjob/"
    found = text_of(root.get("/admin/search/", {"q": "harbor"}))
    assert "Harbor Goods" in found and "Harbor Light" in found
    theirs = browser(make_user(make_site(client_name="Maple"), role=Role.SUPPORT))
    assert "Nobody and nothing" in text_of(theirs.get("/admin/search/", {"q": "harbor"}))
    assert "Nobody and nothing" in text_of(theirs.get("/admin/search/", {"q": "system"}))


def test_search_never_leaves_the_users_sites() -> None:
    ours, theirs = make_site(), make_site()
    stranger = make_member(theirs, phone="+17705550123", email="ada@example.com", external_id="L-77")
    message = make_message(stranger)
    consent.opt_out(theirs, "+17705550188")
    client = browser(make_user(ours, role=Role.ADMIN))
    for text in ("7705550123", "ada@example.com", "L-77", f"#{message.pk}", "7705550188", theirs.site_id):
        assert "Nobody and nothing matches" in text_of(client.get("/admin/search/", {"q": text})), text


# --- System -----------------------------------------------------------------------------------------------------------


def test_system_is_for_developers() -> None:
    site = make_site()
    assert browser(make_user(site, role=Role.MANAGER)).get("/admin/system/").status_code == 403
    text = text_of(browser(make_user(site, role=Role.DEVELOPER)).get("/admin/system/"))
    for words in ("Database", "Send what is due", "Members to ask to subscribe", "Size of the database"):
        assert words in text


# --- Set-up files -----------------------------------------------------------------------------------------------------


def whole_site() -> Site:
    site = make_site(client_name="Harbor Goods", guest_phones=["+17705550101"])
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, "app-canary-77aa")
    make_sign_up_source(site)
    make_campaign(site, name="Thanks")
    make_action(make_member(site))
    return site


def test_a_set_up_goes_out_without_secrets_and_comes_in_as_a_draft() -> None:
    site = whole_site()
    manager = make_user(site, role=Role.MANAGER)
    client = browser(manager)
    answer = client.get(f"/admin/loyalty/site/{site.pk}/export/")
    assert "app-canary" not in answer.content.decode() and "5550101" not in answer.content.decode()
    assert json.loads(answer.content)["campaigns"][0]["name"] == "Thanks"
    file = SimpleUploadedFile("site.json", answer.content)
    made = client.post(
        "/admin/loyalty/site/setup/", {"client_name": "Harbor Two", "site_id": "77", "file": file}, follow=True
    )
    assert "Enter its tokens" in text_of(made)
    copy = Site.objects.get(site_id="77")
    assert (copy.state, copy.client_name, copy.campaigns.get().name) == ("DRAFT", "Harbor Two", "Thanks")
    assert SiteMembership.objects.get(site=copy).user == manager


def test_a_site_is_cloned_but_never_one_of_others() -> None:
    site, theirs = whole_site(), make_site()
    client = browser(make_user(site, role=Role.MANAGER))
    fields = {"client_name": "Copy", "site_id": "78", "source": site.site_id}
    client.post("/admin/loyalty/site/setup/", fields)
    assert Site.objects.get(site_id="78").sign_up_sources.get().sign_up_source_id == "132109"
    client.post("/admin/loyalty/site/setup/", {**fields, "site_id": "79", "source": theirs.site_id})
    assert not Site.objects.filter(site_id="79").exists()
    support = browser(make_user(site, role=Role.SUPPORT))
    assert support.get("/admin/loyalty/site/setup/").status_code == 403


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG", "no JSON"), (b"[1]", "holds no site"), (b'{"surprise": 1}', "unknown field"),
        (b"[" * 100_000, "no JSON"), (b" " * 1_200_000, "larger than 1 MB"), (b"", "file is empty"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_a_sentence(root: Client, content: bytes, words: str) -> None:
    fields = {"client_name": "New", "site_id": "80", "file": SimpleUploadedFile("site.json", content)}
    assert words in text_of(root.post("/admin/loyalty/site/setup/", fields))
    assert not Site.objects.exists()


def test_system_shows_the_pace_of_the_tokens_of_the_users_sites_only() -> None:
    ours, theirs = make_site(client_name="Harbor Goods"), make_site(client_name="Bluebird")
    for site in (ours, theirs):
        make_token(site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{site.site_id}")
        rate_limit.reserve(*tokens.pace(f"legacy-{site.site_id}"), 1)
    text = text_of(browser(make_user(ours, role=Role.DEVELOPER)).get("/admin/system/"))
    assert "Attentive legacy token · all other calls" in text
    assert "Bluebird" not in text


@pytest.mark.parametrize("number", ["0", "abc", "9" * 19, "9" * 40, "-1", "1.5", "%00"])
def test_what_is_no_number_of_a_row_is_not_found(root: Client, number: str) -> None:
    answers = {}
    for model, model_admin in admin.site._registry.items():
        if isinstance(model_admin, SiteScopedAdmin) and model is not SendingStop:
            name = f"{model._meta.app_label}/{model._meta.model_name}"
            answers[name] = root.get(f"/admin/{name}/{number}/change/").status_code
    assert set(answers.values()) == {404}, answers
