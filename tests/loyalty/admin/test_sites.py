"""The pages of sites: who sees and does what, tenants apart, no secret in any page, the way from nothing to live."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import tokens
from loyalty.models import AccessToken, AuditEntry, Site, SiteMembership
from tests.factories import make_member, make_site, make_token, make_user
from tests.loyalty.admin.pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/site/"
Kind = AccessToken.Kind
Role = SiteMembership.Role
GUEST = "+17705550101"
SECRETS = ("loyalty-canary-5d1f", "app-canary-77aa", "legacy-canary-90bc", "signing-canary-31fe")


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(running: SandboxProcess, settings: Any) -> SandboxProcess:
    settings.ATTENTIVE_API_URL = running.url
    settings.ANNEX_CLOUD_API_URL = f"{running.url}/api/3.0"
    running.configure_company("harbor", refused=[], double_opt_in=False)
    return running


@pytest.fixture
def root() -> Client:
    return browser(User.objects.create_superuser("root"))


def page(site: Site, name: str) -> str:
    return f"{LIST}{site.pk}/{name}/"


def with_secrets(**fields: Any) -> Site:
    site = make_site(guest_phones=[GUEST], **fields)
    kinds = (Kind.LOYALTY, Kind.ATTENTIVE_APP, Kind.ATTENTIVE_LEGACY, Kind.WEBHOOK_SIGNING)
    for kind, secret in zip(kinds, SECRETS, strict=True):
        make_token(site, kind, secret)
    return site


# --- Who sees and does what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["overview", "activate", "credentials", "change", "export", "do/pause"])
def test_a_site_of_others_does_not_exist(name: str) -> None:
    ours, theirs = make_site(), make_site(client_name="Somebody Else")
    client = browser(make_user(ours, role=Role.ADMIN))
    assert client.get(page(ours, name)).status_code == 200
    assert client.get(page(theirs, name)).status_code == 404
    assert client.post(page(theirs, name)).status_code == 404
    assert client.get(page(ours, name) + f"?site={theirs.site_id}").status_code == 404
    assert "Somebody Else" not in client.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("role", "may_activate", "may_rotate"),
    [(Role.SUPPORT, False, False), (Role.MANAGER, True, False), (Role.DEVELOPER, True, True)],
)
def test_the_role_decides_what_may_be_changed(role: str, may_activate: bool, may_rotate: bool) -> None:
    site = with_secrets()
    client = browser(make_user(site, role=role))
    paused = client.post(page(site, "do/pause"))
    site.refresh_from_db()
    assert (paused.status_code, site.state) == ((302, "PAUSED") if may_activate else (403, "LIVE"))
    assert (client.post(page(site, "activate"), {"do": "request"}).status_code == 302) is may_activate
    assert (client.get(f"{LIST}add/").status_code == 200) is may_activate
    assert (client.get(page(site, "export")).status_code == 200) is may_activate
    revoked = client.post(page(site, "credentials"), {"do": "revoke", "kind": "WEBHOOK_SIGNING"})
    assert (revoked.status_code == 302) is may_rotate
    assert (tokens.active(site, Kind.WEBHOOK_SIGNING) is None) is may_rotate
    changed = client.post(page(site, "change"), {"client_name": "Renamed"})
    assert (changed.status_code == 403) is not may_activate
    for name in ("overview", "activate", "credentials"):
        assert client.get(page(site, name)).status_code == 200


def test_no_page_shows_a_stored_secret(root: Client) -> None:
    site = with_secrets(state=Site.State.DRAFT)
    tokens.set_token(site, Kind.ATTENTIVE_APP, "app-canary-next-44", slot="NEXT")
    seen = ""
    for name in ("overview", "activate", "credentials", "change", "export"):
        seen += root.get(page(site, name)).content.decode()
    seen += root.get(LIST).content.decode() + root.get("/admin/loyalty/auditentry/").content.decode()
    for secret in (*SECRETS, "app-canary-next-44", encode_access_token(site.site_id, SECRETS[0])):
        assert secret not in seen
    assert "····77aa" in seen


def test_a_refused_value_is_not_shown_again(root: Client, sandbox: SandboxProcess) -> None:
    site = make_site(state=Site.State.DRAFT)
    answer = root.post(page(site, "activate"), {"do": "app", "secret": "app-revoked"}, follow=True)
    assert "Write permission" in text_of(answer)
    assert "app-revoked" not in answer.content.decode()
    invalid = root.post(f"{LIST}add/", {"client_name": "", "app_key": "app-canary-77aa"})
    assert "This field is required" in text_of(invalid)
    assert "app-canary-77aa" not in invalid.content.decode()


def test_phones_of_guests_are_masked_without_the_right() -> None:
    site = make_site(guest_phones=[GUEST])
    masked = browser(make_user(site)).get(page(site, "activate")).content.decode()
    assert "+1 ••• ••• 0101" in masked
    assert "770-555-0101" not in masked
    whole = browser(make_user(site, role=Role.ADMIN)).get(page(site, "activate")).content.decode()
    assert "+1 770-555-0101" in whole


# --- The list and the settings ----------------------------------------------------------------------------------------


def test_the_list_says_how_each_site_stands(root: Client) -> None:
    make_site(client_name="Good")
    make_site(client_name="Broken", checks={"ATTENTIVE_APP": {"state": "FAILED", "sentence": "Refused."}})
    text = text_of(root.get(LIST))
    assert "Failing" in text and "Live" in text
    failing = text_of(root.get(LIST, {"state": "FAILING"}))
    assert "Broken" in failing and "Good" not in failing
    assert "Nothing found" in text_of(root.get(LIST, {"q": "nobody"}))


def test_the_list_counts_the_members_of_each_site(root: Client) -> None:
    ours, theirs = make_site(client_name="Ours"), make_site(client_name="Theirs")
    for site, count in ((ours, 2), (theirs, 3)):
        for _ in range(count):
            make_member(site)
    rows = re.findall(r"(Ours|Theirs) \d+ Live .*?(\d+) – never", text_of(root.get(LIST)))
    assert rows == [("Ours", "2"), ("Theirs", "3")]


def test_selected_sites_are_tested_at_once_by_those_who_may(root: Client, sandbox: SandboxProcess) -> None:
    good, bad = with_secrets(client_name="Good"), with_secrets(client_name="Bad")
    data = {"action": "test_selected", "_selected_action": [str(good.pk), str(bad.pk)], "index": "0"}
    text = text_of(root.post(LIST, data, follow=True))
    assert "Good, Attentive app key: " in text and "Bad, Attentive app key: " in text
    good.refresh_from_db()
    assert good.last_check_at is not None
    supporter = browser(make_user(bad, role=Role.SUPPORT))
    assert "test_selected" not in supporter.get(LIST).content.decode()


def test_an_empty_list_says_what_to_do(root: Client) -> None:
    assert "Connect the first one" in text_of(root.get(LIST))
    assert "No client site yet" in text_of(root.get("/admin/"))


def test_settings_are_read_as_staff_write_them(root: Client) -> None:
    site = make_site()
    whole = {
        "client_name": "Harbor Goods", "site_id": site.site_id, "default_country": "CA",
        "allowed_countries": ["CA", "US"], "time_zone": "America/Toronto", "quiet_from": "21:00",
        "quiet_until": "08:30", "caps_text": "1 / 8\n3 / 24", "message_path": "/1/messages", "sms_prefix": "Harbor:",
    }  # fmt: skip
    assert root.post(page(site, "change"), whole).status_code == 302
    site.refresh_from_db()
    assert site.quiet_hours == {"start": "21:00", "end": "08:30"}
    assert site.caps == [{"hours": 8, "messages": 1}, {"hours": 24, "messages": 3}]
    assert site.allowed_countries == ["US", "CA"] or site.allowed_countries == ["CA", "US"]
    assert "21:00" in root.get(page(site, "change")).content.decode()
    assert AuditEntry.objects.filter(event="site.settings", site=site).exists()
    for wrong, words in (
        ({"caps_text": "often"}, "is no cap"), ({"quiet_until": ""}, "Give both times"),
        ({"allowed_countries": []}, "This field is required"),
    ):  # fmt: skip
        assert words in text_of(root.post(page(site, "change"), {**whole, **wrong}))
    none = {**whole, "quiet_from": "", "quiet_until": "", "caps_text": ""}
    root.post(page(site, "change"), none)
    site.refresh_from_db()
    assert (site.quiet_hours, site.caps) == (None, [])


@pytest.mark.parametrize("count", [1, 3])
def test_pages_ask_few_queries_however_many_rows(count: int) -> None:
    sites = [with_secrets() for _ in range(count)]
    client = browser(make_user(*sites, role=Role.ADMIN))
    pages = [LIST, "/admin/", "/admin/loyalty/auditentry/", "/admin/loyalty/sitemembership/", f"{LIST}add/"]
    pages += [page(sites[0], name) for name in ("overview", "activate", "credentials", "change")]
    too_many = {address: found for address in pages if (found := queries_of(client, address)) > MOST_QUERIES}
    assert too_many == {}


def test_actions_are_confirmed_and_never_a_get(root: Client) -> None:
    site = make_site()
    asked = root.get(page(site, "do/pause"))
    assert "Messages wait until you resume" in text_of(asked)
    site.refresh_from_db()
    assert site.state == "LIVE"
    assert root.get(page(site, "do/nothing")).status_code == 404
    late = root.post(page(site, "do/resume"), follow=True)
    assert "Nothing was changed" in text_of(late)


# --- From nothing to live ---------------------------------------------------------------------------------------------


def test_a_client_is_connected_with_all_values_at_once_and_goes_live(root: Client, sandbox: SandboxProcess) -> None:
    added = root.post(
        f"{LIST}add/",
        {
            "client_name": "Harbor Goods", "site_id": "", "default_country": "US", "time_zone": "America/New_York",
            "access_token": encode_access_token("1000001", "loyalty-harbor"), "app_key": "app-harbor",
            "sign_up_source_id": "132109", "legacy_token": "legacy-harbor", "guest_phones": "(770) 555-0101",
        },
        follow=True,
    )  # fmt: skip
    site = Site.objects.get(site_id="1000001")
    assert "4 of 5 tasks passed" in text_of(added)
    assert "Harbor (harbor), app Harbor loyalty" in text_of(added)
    for step in ("subscribe", "text"):
        root.post(page(site, "activate"), {"do": step, "guest": "0"})
    assert "All is green" in text_of(root.get(page(site, "activate")))
    root.post(page(site, "do/go-live"))
    site.refresh_from_db()
    assert site.state == Site.State.LIVE
    assert sandbox.texts("harbor", GUEST)[-1].count("Test from Loyalty SMS") == 1


def test_a_manager_who_adds_a_site_works_on_it() -> None:
    manager = make_user(make_site(), role=Role.MANAGER)
    fields = {"client_name": "New", "site_id": "9", "default_country": "US", "time_zone": "UTC"}
    browser(manager).post(f"{LIST}add/", fields)
    assert SiteMembership.objects.get(site__site_id="9", user=manager).role == Role.MANAGER
    again = browser(manager).post(f"{LIST}add/", fields)
    assert "already exists" in text_of(again)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"do": "access", "secret": encode_access_token("5", "loyalty-harbor")}, "for site 5"),
        ({"do": "app", "secret": "app-bluebird"}, "belongs to “Bluebird”"),
        ({"do": "app", "secret": ""}, "app key"),
        ({"do": "legacy", "secret": "app-harbor"}, "legacyapi@attentivemobile.com"),
        ({"do": "legacy", "secret": " "}, "empty"),
        ({"do": "source", "source_id": "API"}, "digits only"),
        ({"do": "guests", "phones": "1.77056E+10"}, "spreadsheet"),
        ({"do": "text", "guest": "7"}, "Choose one of the guest phones"),
        ({"do": "subscribe", "guest": "0"}, "Enter both first"),
        ({"do": "arrived"}, "Send one first"),
        ({"do": "keep"}, "Enter it first"),
        ({"do": "webhook", "secret": ""}, "signing key is empty"),
    ],
)
def test_every_wrong_value_is_answered_with_its_remedy(
    root: Client, sandbox: SandboxProcess, fields: dict[str, str], words: str
) -> None:
    site = make_site(client_name="Harbor Goods", state=Site.State.DRAFT, guest_phones=[GUEST])
    answer = root.post(page(site, "activate"), fields, follow=True)
    assert words in text_of(answer)
    assert "None" not in text_of(answer).split("Times are in")[0]


def test_an_unknown_step_is_a_404(root: Client) -> None:
    site = make_site()
    assert root.post(page(site, "activate"), {"do": "everything"}).status_code == 404
    assert root.post(page(site, "activate"), {"do": "check", "task": "X"}).status_code == 404
    assert root.post(page(site, "credentials"), {"do": "add", "kind": "X"}).status_code == 404


# --- Rotation ---------------------------------------------------------------------------------------------------------


def test_a_token_is_rotated_and_rolled_back_on_the_page(root: Client, sandbox: SandboxProcess) -> None:
    site = make_site(client_name="Harbor Goods")
    make_token(site, Kind.ATTENTIVE_APP, "app-harbor")

    def step(do: str, **fields: str) -> str:
        data = {"do": do, "kind": "ATTENTIVE_APP", **fields}
        return text_of(root.post(page(site, "credentials"), data, follow=True))

    assert "Test it, then promote it" in step("add", secret="app-revoked")
    assert "refused" in step("test")
    assert "roll back" in step("promote").lower()
    assert tokens.token_secret(site, Kind.ATTENTIVE_APP) == "app-revoked"
    assert "in use again" in step("roll-back")
    assert tokens.token_secret(site, Kind.ATTENTIVE_APP) == "app-harbor"
    assert "is empty" in step("add", secret=" ")
    assert "no next token" in step("test")
    step("revoke")
    assert tokens.active(site, Kind.ATTENTIVE_APP) is None


def test_an_ingest_key_is_shown_once(root: Client) -> None:
    site = make_site()
    shown = root.post(page(site, "credentials"), {"do": "new-ingest-key", "kind": "INGEST"})
    assert "no-store" in shown["Cache-Control"]
    text = text_of(shown)
    key = text[text.index("ingest_") :].split()[0]
    assert tokens.is_ingest_key(key, tokens.inbound(site.site_id, Kind.INGEST))
    assert key not in root.get(page(site, "credentials")).content.decode()
