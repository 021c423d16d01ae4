"""Keys that a client enters by a link: the checks of the Activate page, no key in use replaced, an end to each link."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import client_links, connection, tokens
from loyalty.client_links import End, Key, LinkClosed, Outcome
from loyalty.connection import ActivationRefused, Code, TaskState
from loyalty.models import AccessToken, AuditEntry, ClientLink, Site
from tests.concurrency import meanwhile
from tests.factories import make_sign_up_source, make_site, make_token, make_user

pytestmark = pytest.mark.django_db

Kind = AccessToken.Kind
Slot = AccessToken.Slot
ALL = list(Key.values)


@pytest.fixture
def harbor(sandbox: SandboxProcess) -> SandboxProcess:
    sandbox.configure_company("harbor", double_opt_in=False, read_only=False, refused=[], sign_up_sources={})
    return sandbox


def draft(**fields: Any) -> Site:
    defaults = {"client_name": "Harbor Goods", "state": Site.State.DRAFT, "activated_at": None}
    return make_site(**{**defaults, **fields})


def link_for(site: Site, *keys: str) -> ClientLink:
    return client_links.make(site, keys or ALL, by=make_user(site))[0]


def stored(site: Site, kind: str, slot: str = Slot.CURRENT) -> str | None:
    token = tokens.active(site, kind, slot)
    return tokens.reveal(token) if token else None


# --- Entering ---------------------------------------------------------------------------------------------------------


def test_every_key_is_tested_and_stored_and_the_last_one_ends_the_link(harbor: SandboxProcess) -> None:
    ours, theirs = draft(), draft()
    person = make_user(ours)
    link, _address = client_links.make(ours, ALL, by=person)
    values = {
        Key.LOYALTY: encode_access_token(ours.site_id, "loyalty-harbor"), Key.ATTENTIVE_APP: " app-harbor\n",
        Key.SIGN_UP_SOURCE: "132109", Key.WEBHOOK_SIGNING: "signing-harbor", Key.ATTENTIVE_LEGACY: "legacy-harbor",
    }  # fmt: skip
    for key, value in values.items():
        assert link.ended_at is None
        assert client_links.enter(link, key, value) == Outcome.GIVEN, link.entered[key]
    link.refresh_from_db()
    assert (link.end, link.is_complete, link.is_open) == (End.FINISHED, True, False)
    assert link.entered[Key.ATTENTIVE_APP]["account"] == "Harbor (harbor), app Harbor loyalty"
    ours.refresh_from_db()
    assert stored(ours, Kind.LOYALTY) == "loyalty-harbor"
    assert stored(ours, Kind.ATTENTIVE_APP) == "app-harbor"
    assert stored(ours, Kind.WEBHOOK_SIGNING) == "signing-harbor"
    assert stored(ours, Kind.ATTENTIVE_LEGACY) == "legacy-harbor"
    assert ours.sign_up_sources.get().sign_up_source_id == "132109"
    assert (ours.company_name, ours.company_domain) == ("Harbor", "harbor")
    passed = {task: found["state"] for task, found in ours.checks.items()}
    assert passed == {"LOYALTY": "PASSED", "ATTENTIVE_APP": "PASSED", "SIGN_UP_SOURCE": "PASSED",
                      "ATTENTIVE_LEGACY": "TO_DO"}  # fmt: skip
    assert not AccessToken.objects.filter(site=theirs).exists() and not theirs.sign_up_sources.exists()
    with pytest.raises(LinkClosed):
        client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")


def test_the_trail_names_the_client_and_who_made_the_link(harbor: SandboxProcess) -> None:
    site = draft()
    person = make_user(site)
    link, _address = client_links.make(site, [Key.ATTENTIVE_APP], by=person)
    client_links.enter(link, Key.ATTENTIVE_APP, "app-canary-11aa")
    client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")
    entries = AuditEntry.objects.filter(site=site).exclude(event="site.client_link_made")
    assert {entry.event for entry in entries} >= {"token.set", "site.check", "token.entered_by_client"}
    assert {(entry.user_id, entry.actor) for entry in entries} == {
        (None, f"Client, by the link of {person.get_username()}")
    }
    assert AuditEntry.objects.get(site=site, event="site.client_link_made").user == person
    kept = str(list(AuditEntry.objects.values())) + str(list(ClientLink.objects.values()))
    assert "app-canary-11aa" not in kept and "app-harbor" not in kept


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        (Key.LOYALTY, "eyJsb3lhbHR5VG9rZW4i", "copy the whole token"),
        (Key.LOYALTY, encode_access_token("7777777", "loyalty-harbor"), "for site 7777777"),
        (Key.LOYALTY, "loyalty-revoked", "AC1002"),
        (Key.LOYALTY, "signing-other", "webhook signing key, not the"),
        (Key.LOYALTY, "", "empty"),
        (Key.SIGN_UP_SOURCE, "app-canary-11aa", "copy the ID of your sign-up flow"),
        (Key.ATTENTIVE_APP, "legacy-harbor", "legacy token does not work here"),
        (Key.ATTENTIVE_APP, "app-revoked", "Write permission"),
        (Key.ATTENTIVE_APP, "app harbor", "space"),
        (Key.ATTENTIVE_APP, encode_access_token("1", "loyalty-harbor"), "Annex Cloud's access token"),
        (Key.ATTENTIVE_LEGACY, "app-harbor", "ask for a legacy token"),
        (Key.ATTENTIVE_LEGACY, "legacy harbor", "holds a space"),
        (Key.WEBHOOK_SIGNING, "  ", "The signing key is empty"),
    ],
)
def test_a_wrong_value_is_explained_and_not_stored(harbor: SandboxProcess, key: str, text: str, words: str) -> None:
    site = draft()
    if key != Key.WEBHOOK_SIGNING:
        make_token(site, Kind.WEBHOOK_SIGNING, "signing-other")
    link = link_for(site, key)
    assert client_links.enter(link, key, text) == Outcome.REFUSED
    assert words in link.entered[key]["sentence"]
    assert tokens.active(site, key) is None and not site.sign_up_sources.exists()
    link.refresh_from_db()
    assert link.is_open and link.attempts == 1
    assert not text.strip() or text not in str(link.entered) + str(Site.objects.get(pk=site.pk).checks)


def test_a_key_in_use_stays_in_use_and_the_new_one_waits(harbor: SandboxProcess) -> None:
    site = make_site(client_name="Harbor Goods")
    make_token(site, Kind.ATTENTIVE_LEGACY, "legacy-old")
    make_token(site, Kind.WEBHOOK_SIGNING, "signing-old")
    connection.enter_app_key(site, "app-harbor")
    before = Site.objects.get(pk=site.pk).checks
    link = link_for(site, Key.ATTENTIVE_APP, Key.ATTENTIVE_LEGACY, Key.WEBHOOK_SIGNING)
    assert client_links.enter(link, Key.ATTENTIVE_APP, "app-revoked") == Outcome.REFUSED
    assert stored(site, Kind.ATTENTIVE_APP, Slot.NEXT) is None
    assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor-goods") == Outcome.GIVEN
    assert client_links.enter(link, Key.ATTENTIVE_LEGACY, "legacy-harbor") == Outcome.GIVEN
    assert client_links.enter(link, Key.WEBHOOK_SIGNING, "signing-harbor") == Outcome.GIVEN
    for kind, current, following in (
        (Kind.ATTENTIVE_APP, "app-harbor", "app-harbor-goods"),
        (Kind.ATTENTIVE_LEGACY, "legacy-old", "legacy-harbor"),
        (Kind.WEBHOOK_SIGNING, "signing-old", "signing-harbor"),
    ):
        assert (stored(site, kind), stored(site, kind, Slot.NEXT)) == (current, following)
        assert link.entered[kind]["slot"] == Slot.NEXT
    assert Site.objects.get(pk=site.pk).checks == before


def test_a_next_token_of_staff_is_not_pushed_out(harbor: SandboxProcess) -> None:
    site = draft()
    make_token(site, Kind.ATTENTIVE_APP, "app-harbor")
    link = link_for(site, Key.ATTENTIVE_APP)
    make_token(site, Kind.ATTENTIVE_APP, "app-staff", slot=Slot.NEXT)
    assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor-goods") == Outcome.REFUSED
    assert "Another key waits" in link.entered[Key.ATTENTIVE_APP]["sentence"]
    assert stored(site, Kind.ATTENTIVE_APP, Slot.NEXT) == "app-staff"


def test_a_sign_up_source_of_staff_stays_the_default(harbor: SandboxProcess) -> None:
    site = draft()
    link = link_for(site, Key.SIGN_UP_SOURCE)
    make_sign_up_source(site, sign_up_source_id="555")
    assert client_links.enter(link, Key.SIGN_UP_SOURCE, "132109") == Outcome.REFUSED
    assert site.sign_up_sources.get().sign_up_source_id == "555"


def test_the_client_may_correct_a_key_of_another_account_until_staff_keep_it(harbor: SandboxProcess) -> None:
    harbor.configure_company("maple")
    for staff_keep in (False, True):
        site = draft()
        link = link_for(site, Key.ATTENTIVE_APP)
        assert client_links.enter(link, Key.ATTENTIVE_APP, "app-maple") == Outcome.TO_CONFIRM
        assert link.entered[Key.ATTENTIVE_APP]["code"] == Code.OTHER_CLIENT
        assert client_links.enter(link, Key.ATTENTIVE_APP, "app-revoked") == Outcome.REFUSED
        assert stored(site, Kind.ATTENTIVE_APP) == "app-maple"
        if staff_keep:
            assert connection.keep_account(Site.objects.get(pk=site.pk)).passed
            # Now Maple is the right account, and the other one is to be confirmed.
            assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor") == Outcome.GIVEN
            assert (stored(site, Kind.ATTENTIVE_APP), stored(site, Kind.ATTENTIVE_APP, Slot.NEXT)) == (
                "app-maple", "app-harbor",
            )  # fmt: skip
        else:
            assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor") == Outcome.GIVEN
            assert stored(site, Kind.ATTENTIVE_APP) == "app-harbor"
            assert Site.objects.get(pk=site.pk).checks["ATTENTIVE_APP"]["state"] == TaskState.PASSED


def test_a_key_that_cannot_be_tested_now_is_kept_and_may_be_entered_again(
    harbor: SandboxProcess, settings: Any
) -> None:
    settings.ATTENTIVE_API_URL = "http://127.0.0.1:9"
    site = draft()
    link = link_for(site, Key.ATTENTIVE_APP)
    assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor") == Outcome.TO_CONFIRM
    assert stored(site, Kind.ATTENTIVE_APP) == "app-harbor" and link.is_open
    settings.ATTENTIVE_API_URL = harbor.url
    assert client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor") == Outcome.GIVEN
    assert stored(site, Kind.ATTENTIVE_APP, Slot.NEXT) is None


def test_a_key_that_was_given_is_not_replaced_by_a_second_press(harbor: SandboxProcess) -> None:
    site = draft()
    link = link_for(site, Key.ATTENTIVE_LEGACY, Key.ATTENTIVE_APP)
    client_links.enter(link, Key.ATTENTIVE_LEGACY, "legacy-harbor")
    client_links.enter(link, Key.ATTENTIVE_LEGACY, "legacy-other")
    assert stored(site, Kind.ATTENTIVE_LEGACY) == "legacy-harbor"
    assert stored(site, Kind.ATTENTIVE_LEGACY, Slot.NEXT) is None


# --- The end of a link ------------------------------------------------------------------------------------------------


def test_a_link_that_ends_while_a_key_is_tested_stores_nothing(harbor: SandboxProcess) -> None:
    site = draft()
    link = link_for(site, Key.ATTENTIVE_APP)
    assert client_links.withdraw(site, by=make_user(site))
    # `link` was read before.
    with pytest.raises(LinkClosed):
        client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")
    assert tokens.active(site, Kind.ATTENTIVE_APP) is None
    client_links.finish(link)
    link.refresh_from_db()
    assert link.end == End.WITHDRAWN
    assert not client_links.withdraw(site)


def test_a_link_is_over_when_its_time_is_up_or_too_much_was_tried(harbor: SandboxProcess) -> None:
    site = draft()
    link = link_for(site, Key.ATTENTIVE_APP)
    assert timedelta(days=6) < link.expires_at - timezone.now() <= timedelta(days=7)
    ClientLink.objects.filter(pk=link.pk).update(attempts=ClientLink.MOST_ATTEMPTS - 1)
    link.refresh_from_db()
    client_links.enter(link, Key.ATTENTIVE_APP, "app-revoked")
    with pytest.raises(LinkClosed):
        client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")
    link.refresh_from_db()
    assert (link.is_open, client_links.standing(link)[0]) == (False, "TRIED_OUT")
    ClientLink.objects.filter(pk=link.pk).update(attempts=0, expires_at=timezone.now())
    link.refresh_from_db()
    assert (link.is_open, client_links.standing(link)[0]) == (False, "EXPIRED")
    with pytest.raises(LinkClosed):
        client_links.enter(link, Key.ATTENTIVE_APP, "app-harbor")
    assert tokens.active(site, Kind.ATTENTIVE_APP) is None


def test_a_new_link_ends_the_old_one_of_its_site_alone() -> None:
    ours, theirs = draft(), draft()
    first, other = link_for(ours), link_for(theirs)
    second = link_for(ours)
    first.refresh_from_db()
    other.refresh_from_db()
    assert (first.end, second.end, other.end) == (End.REPLACED, "", "")
    assert client_links.latest(ours) == second and client_links.latest(theirs) == other
    with pytest.raises(IntegrityError), transaction.atomic():
        ClientLink.objects.create(site=ours, token_hash="0" * 64, expires_at=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_two_links_made_at_once_leave_the_later_one() -> None:
    site = draft()
    with transaction.atomic():
        first, _address = client_links.make(site, [Key.LOYALTY])
        beside = meanwhile(lambda: client_links.make(site, [Key.LOYALTY])[0])
    second = beside.result(timeout=20)
    assert client_links.latest(site) == second
    first.refresh_from_db()
    assert first.end == End.REPLACED


def test_only_the_hash_of_the_token_is_kept() -> None:
    site = draft()
    link, address = client_links.make(site, [Key.LOYALTY])
    token = address.rstrip("/").rpartition("/")[2]
    assert len(token) >= 5 + 43
    assert token not in str(ClientLink.objects.filter(pk=link.pk).values().get())
    assert client_links.find(token) == link
    assert client_links.find(link.token_hash) is None and client_links.find("") is None


# --- What is asked for ------------------------------------------------------------------------------------------------


def test_what_is_missing_is_asked_for_and_what_waits_cannot_be() -> None:
    site, other = draft(), draft()
    make_token(other, Kind.LOYALTY, "loyalty-harbor")
    assert client_links.missing(site) == set(Key.values)
    make_token(site, Kind.ATTENTIVE_APP, "app-harbor")
    make_sign_up_source(site)
    site.legacy_token_requested_at = timezone.now()
    assert client_links.missing(site) == {Key.LOYALTY, Key.WEBHOOK_SIGNING}
    make_token(site, Kind.ATTENTIVE_APP, "app-next", slot=Slot.NEXT)
    assert client_links.cannot_ask(site) == {Key.ATTENTIVE_APP, Key.SIGN_UP_SOURCE}
    link, _address = client_links.make(site, [Key.ATTENTIVE_APP, Key.ATTENTIVE_LEGACY, "INGEST"])
    assert link.asked == [Key.ATTENTIVE_LEGACY]
    with pytest.raises(ActivationRefused, match="at least one"):
        client_links.make(site, [Key.ATTENTIVE_APP])
