import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent, imports
from loyalty.models import (
    AccessToken,
    AuditEntry,
    Consent,
    ConsentEvent,
    ImportJob,
    Member,
    MemberChange,
    Site,
    SiteMembership,
)
from tests.factories import (
    make_action,
    make_campaign,
    make_consent,
    make_member,
    make_message,
    make_site,
    make_token,
    make_user,
)

from .pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/member/"
Role = SiteMembership.Role
State = Consent.State


def page(member: Member) -> str:
    return reverse("admin:loyalty_member_change", args=[member.pk])


def act(member: Member, action: str) -> str:
    return reverse("admin:loyalty_member_action", args=[member.pk, action])


def with_pii(user: User) -> User:
    user.user_permissions.add(Permission.objects.get(codename="view_pii"))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def site() -> Site:
    return make_site(client_name="Harbor Goods")


@pytest.fixture
def other() -> Site:
    return make_site(client_name="Cedar Home")


# --- The list ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_only_members_of_ones_own_sites(site: Site, other: Site) -> None:
    make_member(site, first_name="Mine")
    make_member(other, first_name="Theirs")
    text = text_of(browser(make_user(site)).get(LIST))
    assert "Mine" in text and "Theirs" not in text
    both = text_of(browser(make_user(site, other)).get(LIST, {"site": other.site_id}))
    assert "Theirs" in both and "Mine" not in both


@pytest.mark.parametrize("query", ["(770) 555-0101", "ada@example.com", "L-77", "lovel"])
def test_a_search_does_not_leave_the_tenant(site: Site, other: Site, query: str) -> None:
    for one in (site, other):
        make_member(one, phone="+17705550101", email="ada@example.com", external_id="L-77", last_name="Lovelace",
                    first_name=f"At{one.pk}")  # fmt: skip
    text = text_of(browser(make_user(site)).get(LIST, {"q": query}))
    assert f"At{site.pk}" in text and f"At{other.pk}" not in text


def test_phones_are_masked_without_the_permission(site: Site) -> None:
    member = make_member(site, phone="+17705550142", email="ada@example.com")
    user = make_user(site, role=Role.SUPPORT)
    for address in (LIST, page(member)):
        html = browser(user).get(address).content.decode()
        assert "555-0142" not in html and "+17705550142" not in html and "ada@example.com" not in html
        assert "••• 0142" in html
    assert "+1 770-555-0142" in browser(with_pii(user)).get(LIST).content.decode()


def test_the_list_says_how_sms_stands(site: Site) -> None:
    subscribed, asked = make_member(site, first_name="Sue"), make_member(site, first_name="Tom")
    make_member(site, first_name="Nil")
    consent.hear(site, channel="TEXT", address=subscribed.phone, state=State.SUBSCRIBED, source="WEBHOOK",
                 event_at=timezone.now())  # fmt: skip
    consent.mark_to_ask(site, [asked.phone])
    client = browser(make_user(site))
    for state, name in ((State.SUBSCRIBED, "Sue"), (State.TO_ASK, "Tom"), (State.UNKNOWN, "Nil")):
        text = text_of(client.get(LIST, {"sms": state.value, "site": site.site_id}))
        assert name in text and all(other not in text.split() for other in {"Sue", "Tom", "Nil"} - {name})


def test_the_tier_filter_knows_the_chosen_sites_tiers(site: Site, other: Site) -> None:
    make_member(site, tier="Gold", first_name="Rich")
    make_member(site, tier="Silver", first_name="Modest")
    make_member(other, tier="Platinum")
    client = browser(make_user(site))
    assert "Platinum" not in client.get(LIST, {"site": site.site_id}).content.decode()
    text = text_of(client.get(LIST, {"site": site.site_id, "tier": "Gold"}))
    assert "Rich" in text and "Modest" not in text


def test_the_import_filter_names_no_file_of_another_tenant(site: Site, other: Site) -> None:
    client = browser(make_user(site))
    for of, name in ((site, "ours.csv"), (other, "theirs.csv")):
        job = ImportJob.objects.create(site=of, file_name=name)
        make_member(site, created_by_import=job)
        assert (name in client.get(LIST, {"import": job.pk}).content.decode()) == (of == site)


def test_queries_do_not_grow_with_the_rows(site: Site) -> None:
    client = browser(make_user(site))
    make_member(site)
    one = queries_of(client, f"{LIST}?site={site.site_id}")
    for _ in range(2):
        consent.mark_to_ask(site, [make_member(site, tier="Gold").phone])
    assert queries_of(client, f"{LIST}?site={site.site_id}") == one <= MOST_QUERIES


# --- Several members at once ------------------------------------------------------------------------------------------


def chosen(action: str, *members: Member, **more: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": [str(member.pk) for member in members], "index": "0", **more}


def test_asking_selected_members_needs_a_confirmation(site: Site) -> None:
    fresh, gone, there = (make_member(site) for _ in range(3))
    consent.opt_out(site, gone.phone)
    make_consent(there)
    make_consent(make_member(make_site(), phone=fresh.phone))
    client = browser(make_user(site))
    asked = client.post(LIST, chosen("queue_selected", fresh, gone, there))
    assert asked.status_code == 200 and "3 members are selected" in text_of(asked)
    assert "1 of 3 is subscribed already and left out" in text_of(asked)
    assert consent.state_of(site, fresh.phone) == State.UNKNOWN
    done = client.post(LIST, chosen("queue_selected", fresh, gone, confirmed="1"), follow=True)
    assert "1 member joined the subscribe queue. 1 was left out" in text_of(done)
    assert consent.state_of(site, fresh.phone) == State.TO_ASK
    assert consent.state_of(site, gone.phone) == State.UNSUBSCRIBED
    assert AuditEntry.objects.filter(event="members.queued", site=site).exists()


def test_support_may_not_ask_members_to_subscribe(site: Site) -> None:
    member = make_member(site)
    client = browser(make_user(site, role=Role.SUPPORT))
    assert "queue_selected" not in client.get(LIST).content.decode()
    client.post(LIST, chosen("queue_selected", member, confirmed="1"))
    assert consent.state_of(site, member.phone) == State.UNKNOWN


def test_a_role_on_one_site_does_not_help_on_another(site: Site, other: Site) -> None:
    mine, theirs = make_member(site), make_member(other)
    user = make_user(site)
    SiteMembership.objects.create(user=user, site=other, role=Role.SUPPORT)
    answer = browser(user).post(LIST, chosen("queue_selected", mine, theirs, confirmed="1"))
    assert answer.status_code == 403
    assert consent.state_of(site, mine.phone) == consent.state_of(other, theirs.phone) == State.UNKNOWN


def test_unsubscribing_selected_members_tells_attentive_once_each(site: Site, sandbox: SandboxProcess) -> None:
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, "app-key-for-tests-1")
    members = [make_member(site), make_member(site)]
    done = browser(make_user(site)).post(LIST, chosen("unsubscribe_selected", *members, confirmed="1"), follow=True)
    assert "2 members get no more texts" in text_of(done)
    assert {consent.state_of(site, member.phone) for member in members} == {State.UNSUBSCRIBED}
    facts = ConsentEvent.objects.filter(consent__address=members[0].phone).values_list("source", flat=True)
    assert sorted(facts) == ["STAFF", "UNSUBSCRIBE_CALL"], "the ledger holds each fact once"


def test_everybody_selected_is_out_before_attentive_is_told_of_the_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [make_member(site), make_member(site)]

    def cut_off(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("loyalty.unsubscribing.unsubscribe", cut_off)
    with pytest.raises(TimeoutError):
        browser(make_user(site)).post(LIST, chosen("unsubscribe_selected", *members, confirmed="1"))
    assert {consent.state_of(site, member.phone) for member in members} == {State.UNSUBSCRIBED}


def test_a_small_selection_is_downloaded_as_a_safe_spreadsheet(site: Site, other: Site) -> None:
    named = make_member(site, phone="+17705550101", first_name="=1+1", tier="Gold")
    theirs = make_member(other)
    answer = browser(make_user(site)).post(LIST, chosen("download_selected", named, theirs))
    content = answer.content.decode("utf-8-sig")
    assert "attachment" in answer["Content-Disposition"] and "no-store" in answer["Cache-Control"]
    assert content.startswith("phone,email,external_id") and "\r\n'+17705550101," in content and ",'=1+1," in content
    assert len(content.splitlines()) == 2, "another tenant's member is no part of it"
    assert AuditEntry.objects.get(event="members.downloaded").site == site
    support = browser(make_user(site, role=Role.SUPPORT)).post(LIST, chosen("download_selected", named), follow=True)
    assert b"17705550101" not in support.content


# --- One member -------------------------------------------------------------------------------------------------------


def test_the_page_tells_a_persons_story(site: Site) -> None:
    member = make_member(site, first_name="Ada", last_name="Lovelace", extended_attributes={"store": "Austin"})
    now = timezone.now()
    consent.hear(site, channel="TEXT", address=member.phone, state=State.SUBSCRIBED, source="SUBSCRIBER_LIST",
                 event_at=now - timedelta(days=9), evidence="Ticket 4411")  # fmt: skip
    action = make_action(member, points_delta=12, processed_at=now, outcome="MATCHED")
    make_message(member, make_campaign(site, name="Thanks"), action=action, state="SKIPPED", reason="FREQUENCY_CAP")
    text = text_of(browser(make_user(site)).get(page(member)))
    for words in ("Ada Lovelace", "Unknown → Subscribed", "Ticket 4411", "List exported from Attentive", "Purchase",
                  "+12 points", "Text: Thanks", "Skipped", "got a text a short time ago"):  # fmt: skip
        assert words in text
    assert "Austin" not in text
    assert "Austin" in text_of(browser(make_user(site, role=Role.DEVELOPER)).get(page(member)))


def test_a_replaced_member_leads_to_the_newer_one(site: Site) -> None:
    newer = make_member(site, first_name="New")
    older = make_member(site, first_name="Old", replaced_by=newer)
    client = browser(make_user(site))
    assert page(newer) in client.get(page(older)).content.decode()
    assert page(older) in client.get(page(newer)).content.decode()


def test_a_member_of_another_tenant_does_not_exist(site: Site, other: Site) -> None:
    theirs = make_member(other)
    client = browser(make_user(site, role=Role.ADMIN))
    assert client.get(page(theirs)).status_code == 404
    assert client.post(act(theirs, "block")).status_code == 404
    assert consent.state_of(other, theirs.phone) == State.UNKNOWN


def test_the_page_makes_few_queries_whatever_happened(site: Site) -> None:
    member = make_member(site)
    client = browser(make_user(site))
    before = queries_of(client, page(member))
    for _ in range(3):
        make_message(member)
        consent.mark_to_ask(site, [member.phone])
    assert queries_of(client, page(member)) <= before <= MOST_QUERIES


@pytest.mark.parametrize(
    ("action", "role", "before", "after"),
    [
        ("subscribe", Role.MANAGER, None, State.TO_ASK),
        ("subscribe", Role.SUPPORT, None, None),
        ("block", Role.SUPPORT, State.SUBSCRIBED, State.BLOCKED),
        ("unblock", Role.MANAGER, State.BLOCKED, State.UNKNOWN),
        ("unblock", Role.SUPPORT, State.BLOCKED, State.BLOCKED),
        ("unsubscribe", Role.SUPPORT, State.SUBSCRIBED, State.UNSUBSCRIBED),
        ("subscribe", Role.MANAGER, State.UNSUBSCRIBED, State.UNSUBSCRIBED),
    ],
)
def test_buttons(site: Site, action: str, role: str, before: str | None, after: str | None) -> None:
    member = make_member(site)
    if before == State.BLOCKED:
        consent.block(site, member.phone)
    elif before:
        consent.hear(
            site, channel="TEXT", address=member.phone, state=before, source="WEBHOOK", event_at=timezone.now()
        )
    client = browser(make_user(site, role=role))
    client.get(act(member, action))
    assert consent.state_of(site, member.phone) == (before or State.UNKNOWN), "opening the question changes nothing"
    client.post(act(member, action))
    assert consent.state_of(site, member.phone) == (after or State.UNKNOWN)


def test_checking_a_subscription_changes_nothing(site: Site, sandbox: SandboxProcess) -> None:
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, "app-key-for-tests-2")
    member = make_member(site)
    answer = browser(make_user(site, role=Role.SUPPORT)).post(act(member, "check"), follow=True)
    assert "Attentive does not text" in text_of(answer)
    assert not Consent.objects.exists()


def test_checking_without_a_key_says_what_to_do(site: Site) -> None:
    member = make_member(site)
    answer = browser(make_user(site)).post(act(member, "check"), follow=True)
    assert "has no Attentive app key yet" in text_of(answer)


def test_what_imports_did_stands_in_the_story(site: Site) -> None:
    jobs = []
    for tier in ("Silver", "Gold"):
        file = io.BytesIO(f"phone,tier\n+17705550101,{tier}\n".encode())
        jobs.append(imports.start_import(site, file, f"{tier}.csv"))
        imports.set_mapping(jobs[-1], imports.propose_mapping(jobs[-1]))
        imports.run_import(jobs[-1])
    answer = browser(make_user(site)).get(page(Member.objects.get()))
    assert "Imported from Silver.csv" in text_of(answer)
    assert "Changed by the import of Gold.csv" in text_of(answer)
    assert all(f"/admin/loyalty/importjob/{job.pk}/change/" in answer.content.decode() for job in jobs)
    MemberChange.objects.update(changes={"replaced_by": [None, 1], "extended_attributes": [{}, {"zip": "1"}]})
    answer = browser(make_user(site)).get(page(Member.objects.get()))
    assert "current phone, extended attributes" in text_of(answer)


def test_erasing_asks_first_and_is_for_admins(site: Site, other: Site) -> None:
    member, theirs = make_member(site, phone="+17705550101", first_name="Ada"), make_member(other)
    address = reverse("admin:erase_member", args=[member.pk])
    for role in (Role.SUPPORT, Role.MANAGER, Role.DEVELOPER):
        client = browser(make_user(site, role=role))
        assert address not in client.get(page(member)).content.decode()
        assert client.post(address).status_code == 403
    client = browser(make_user(site, role=Role.ADMIN))
    assert client.post(reverse("admin:erase_member", args=[theirs.pk])).status_code == 404
    assert address in client.get(page(member)).content.decode()
    assert "cannot be undone" in text_of(client.get(address))
    assert consent.state_of(site, member.phone) == State.UNKNOWN, "the question erases nobody"
    answer = client.post(address, follow=True)
    assert "The person is erased" in text_of(answer)
    assert consent.state_of(site, "+17705550101") == State.ERASED
    assert not Member.objects.filter(phone="+17705550101").exists()
