"""Erasing a person: nothing of them is left in any table, the books still add up, and nothing brings them back."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import actions, consent, subscriptions
from loyalty.models import (
    AccessToken,
    Consent,
    ExportJob,
    ImportIssue,
    ImportJob,
    LoyaltyAction,
    Member,
    MemberChange,
    Segment,
    SegmentMember,
    Site,
)
from loyalty.segments import members_of
from messaging import dispatch, invariants, triggers
from messaging.erasure import Erasure, erase
from messaging.models import Message, SendAttempt, WebhookEvent
from messaging.webhooks import process_webhooks, receive
from tests.factories import (
    make_action,
    make_campaign,
    make_member,
    make_message,
    make_sign_up_source,
    make_site,
    make_user,
)
from tests.messaging.world import World

pytestmark = pytest.mark.django_db

PHONE, EMAIL = "+17705550177", "zelda.quill@example.com"


def zelda(site: Site, **fields: Any) -> Member:
    """A member who has left traces in every table."""
    person = make_member(site, phone=PHONE, email=EMAIL, first_name="Zelda", last_name="Quill", **fields)
    consent.hear(
        site, channel="TEXT", address=PHONE, state="SUBSCRIBED", source="SUBSCRIBER_LIST",
        event_at=timezone.now() - timedelta(days=1), evidence=f"row of {PHONE}",
    )  # fmt: skip
    consent.hear(site, channel="EMAIL", address=EMAIL, state="SUBSCRIBED", source="WEBHOOK", event_at=None)
    campaign = make_campaign(site)
    for state in ("ACCEPTED", "QUEUED", "HELD", "CLAIMED"):
        lease = timezone.now() if state == "CLAIMED" else None
        action = make_action(
            person, data={"note": f"Zelda {EMAIL}"}, points=5, processed_at=timezone.now(), outcome="MATCHED"
        )
        message = make_message(
            person, campaign, action=action, body="Thanks Zelda!", state=state, lease_until=lease,
            attempt_count=int(state == "ACCEPTED"),
        )  # fmt: skip
        if state == "ACCEPTED":
            SendAttempt.objects.create(message=message, number=1, fence=0, outcome="ACCEPTED", answer=f"to {PHONE}")
    segment = Segment.objects.create(site=site, name=f"Gold {person.pk}")
    SegmentMember.objects.create(segment=segment, member=person)
    receive(site, json.dumps({"type": "sms.sent", "subscriber": {"phone": PHONE}}).encode())
    receive(site, json.dumps({"type": "custom", "subscriber": {"phone": "(770) 555-0177"}}).encode())
    receive(site, json.dumps({"type": "custom", "subscriber": {"email": EMAIL.upper()}}).encode())
    job = ImportJob.objects.create(
        site=site, file="imports/members.csv", file_name="members.csv", rejects_file="rejects/members.csv",
        findings={"INVALID": {"count": 1, "examples": [f"770-555-0177;{EMAIL}", "770-555-0178"]}},
    )  # fmt: skip
    MemberChange.objects.create(job=job, member=person, changes={"first_name": ["Zelda", "Zoe"]})
    for cells in ([PHONE, "Zelda"], ["(770) 555-0177", "Zelda"], ["770-555-0178", f"Zelda <{EMAIL.upper()}>"]):
        ImportIssue.objects.create(job=job, kind="REJECTED", line=2, code="EMAIL", reason="x", cells=cells)
    ImportIssue.objects.create(job=job, kind="REJECTED", line=5, code="PHONE", reason="x", cells=["555-0179"])
    ExportJob.objects.create(site=site, file="exports/gold.zip", state="COMPLETE", manifest={"rows": 1})
    LogEntry.objects.create(
        user=make_user(site), content_type=ContentType.objects.get_for_model(Member), object_id=str(person.pk),
        object_repr="Zelda Quill", action_flag=2, change_message="Zelda",
    )  # fmt: skip
    return person


def everything() -> str:
    """Every cell of every table, as text."""
    cells = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f'SELECT * FROM "{model._meta.db_table}"')
            cells += [str(cell) for row in cursor.fetchall() for cell in row]
    return "\n".join(cells)


@pytest.mark.parametrize("named", [PHONE, "(770) 555-0177", "1 770 555 0177", EMAIL, " Zelda.Quill@Example.com"])
def test_nothing_of_a_person_is_left_in_any_table(named: str) -> None:
    site = make_site()
    zelda(site)
    others = everything().count("770-555-0178") - 1
    done = erase(site, named)
    left = everything()
    for trace in ("Zelda", "Quill", "zelda.quill", "5550177", "555-0177", EMAIL.upper()):
        assert trace not in left, trace
    assert left.count("770-555-0178") == others == 1
    assert done == Erasure(
        addresses=2, members=1, messages=4, actions=4, webhooks=3, attentive="not told", sentence=done.sentence,
        files=["exports/gold.zip", "imports/members.csv", "rejects/members.csv"],
    )  # fmt: skip


def test_the_books_still_add_up() -> None:
    site = make_site()
    zelda(site)
    erase(site, PHONE)
    assert {key: names for key, names in invariants.violations().items() if names} == {}
    assert invariants.states()["ACCEPTED"] == 1
    assert set(Message.objects.exclude(state="ACCEPTED").values_list("state", "reason", "lease_until")) == {
        ("CANCELLED", "ERASED", None)
    }
    assert LoyaltyAction.objects.count() == 4
    assert process_webhooks() == 0


def test_a_call_under_way_ends_as_it_would() -> None:
    site = make_site()
    person = zelda(site)
    message = make_message(person, state="SENDING", lease_until=timezone.now(), fence=3)
    erase(site, PHONE)
    message.refresh_from_db()
    assert (message.state, message.fence, message.to, message.body) == ("SENDING", 3, "", "")


def test_the_same_person_at_another_site_stays() -> None:
    site, other = make_site(), make_site()
    zelda(site)
    kept = zelda(other)
    before = list(Message.objects.filter(site=other).values())
    erase(site, PHONE)
    kept.refresh_from_db()
    assert (kept.phone, kept.email, kept.first_name) == (PHONE, EMAIL, "Zelda")
    assert list(Message.objects.filter(site=other).values()) == before
    assert consent.state_of(other, PHONE) == "SUBSCRIBED"
    assert MemberChange.objects.get(member=kept).changes == {"first_name": ["Zelda", "Zoe"]}
    assert not ImportIssue.objects.filter(job__site=other, cells=[]).exists()
    assert list(ImportIssue.objects.filter(job__site=site).exclude(cells=[]).values_list("line", flat=True)) == [5]
    assert not WebhookEvent.objects.filter(site=other, body="").exists()


def test_a_member_without_messages_is_removed() -> None:
    site = make_site()
    person = make_member(site, phone=PHONE)
    make_action(person)
    done = erase(site, PHONE)
    assert (done.members, done.actions) == (1, 1)
    assert not Member.objects.exists() and not LoyaltyAction.objects.exists()


def test_earlier_and_later_phones_of_a_person_go_too() -> None:
    site = make_site()
    newest = make_member(site, phone="+17705550103", first_name="Zelda")
    middle = make_member(site, phone="+17705550102", first_name="Zelda", replaced_by=newest)
    make_member(site, phone="+17705550101", first_name="Zelda", replaced_by=middle)
    make_member(site, phone="+17705550104", first_name="Bob")
    assert erase(site, "+17705550102").members == 3
    assert [member.first_name for member in Member.objects.all()] == ["Bob"]
    assert {consent.state_of(site, f"+1770555010{number}") for number in (1, 2, 3)} == {"ERASED"}


def test_nothing_brings_an_erased_person_back() -> None:
    site = make_site()
    zelda(site)
    erase(site, PHONE)
    item = {"activity_id": "late", "action": "109", "phone": PHONE, "occurred_at": timezone.now().isoformat()}
    assert actions.record_actions(site, [item])[0].status == "rejected"
    assert consent.mark_to_ask(site, [PHONE]) == consent.hear_many(site, [(PHONE, None)], source="IMPORT") == 0
    triggers.match_actions()
    dispatch.send_due(seconds=0.1)
    assert not Member.objects.filter(phone=PHONE).exists()
    assert not Consent.objects.filter(address=PHONE).exists()


def test_a_person_who_is_no_member_is_remembered_as_erased() -> None:
    site = make_site()
    assert erase(site, "+44 7400 123456").addresses == 1
    assert erase(site, "Nobody@example.com").members == 0
    assert consent.hidden_addresses(site, ["+447400123456", "nobody@example.com"]) == {
        "+447400123456": "ERASED",
        "nobody@example.com": "ERASED",
    }


def test_attentive_is_asked_to_forget_too(sandbox: SandboxProcess) -> None:
    world = World(sandbox)
    zelda(world.site)
    world.sandbox.add_fault("/v1/privacy/delete-request", "status", status=503)
    done = erase(world.site, PHONE)
    assert (done.attentive, done.sentence[-1]) == ("failed", ".")
    # The next call does what the first could not, though nothing here names the person any more.
    again = erase(world.site, PHONE)
    assert (again.attentive, again.members) == ("done", 0)
    AccessToken.objects.update(sealed_secret="damaged")
    assert erase(world.site, PHONE).attentive == "failed"


def test_the_command(capsys: Any) -> None:
    site = make_site()
    zelda(site)
    call_command("erase_member", "--site", site.site_id, "770.555.0177", "--json")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["members"], result["messages"], result["attentive"]) == (1, 4, "not told")
    call_command("erase_member", "--site", site.site_id, EMAIL)
    out = capsys.readouterr().out
    assert "Forgotten: 1 addresses, 0 members" in out and "imports/members.csv" in out
    assert "0177" not in out and EMAIL not in out
    for arguments in (("--site", "none", PHONE), ("--site", site.site_id, "12")):
        with pytest.raises(CommandError, match=r"\.$"):
            call_command("erase_member", *arguments)


def test_ten_thousand_messages_take_seconds_not_minutes() -> None:
    site = make_site()
    person, campaign = make_member(site, phone=PHONE), make_campaign(site)
    now = timezone.now()
    made = LoyaltyAction.objects.bulk_create(
        LoyaltyAction(
            site=site, member=person, action_type=campaign.action_type, activity_id=f"b-{number}", occurred_at=now
        )
        for number in range(10_000)
    )
    Message.objects.bulk_create(
        Message(
            site=site, member=person, campaign=campaign, version_id=campaign.version_id, action=action, to=PHONE,
            body="Thanks Zelda!", due_at=now, expires_at=now,
        )
        for action in made
    )  # fmt: skip
    assert erase(site, PHONE).messages == 10_000
    assert timezone.now() - now < timedelta(seconds=30)


def test_the_empty_row_that_stays_is_nobody(sandbox: SandboxProcess) -> None:
    """It stands in no list, in no segment and in no queue, and its page offers nothing that calls Attentive."""
    world = World(sandbox)
    make_sign_up_source(world.site)
    person, other = world.subscriber(), make_member(world.site)
    make_message(person)
    erase(world.site, person.phone)
    person.refresh_from_db()
    assert person.is_erased
    everybody = Segment.objects.create(site=world.site, name="Everybody")
    assert list(members_of(everybody)) == [other]
    assert consent.state_of(world.site, person.phone) == "ERASED"
    assert consent.mark_to_ask(world.site, [person.phone, other.phone]) == 1
    # What is no phone would end the asking of the whole site.
    assert subscriptions.subscribe_due(world.site)["requested"] == 1
    browser = Client()
    browser.force_login(make_user(is_superuser=True))
    listed = browser.get("/admin/loyalty/member/").content.decode()
    assert f"/member/{other.pk}/" in listed and f"/member/{person.pk}/" not in listed
    chosen = {"action": "check_selected", "_selected_action": [person.pk]}
    assert browser.post("/admin/loyalty/member/", chosen).status_code == 200
    page = browser.get(f"/admin/loyalty/member/{person.pk}/change/").content.decode()
    assert "/do/" not in page and "/erase/" not in page
    assert browser.post(f"/admin/loyalty/member/{person.pk}/erase/").status_code == 404
