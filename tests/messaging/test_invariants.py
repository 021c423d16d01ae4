"""Each invariant counts its own violations, and a database that was filled by the product has none."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from attentive_integration import rate_limit
from loyalty import consent
from loyalty.models import AccessToken, Consent, ConsentEvent, ExportJob, ImportJob, SegmentMember
from loyalty.models.segments import Segment
from messaging import invariants
from messaging.models import CampaignVersion, Message, SendAttempt, WebhookEvent
from tests.factories import (
    make_action,
    make_action_type,
    make_campaign,
    make_member,
    make_site,
    make_token,
    make_user,
)
from tests.messaging.sound_rows import attempt, edit, sound_message

pytestmark = pytest.mark.django_db


def found() -> dict[str, int]:
    return {name: count for names in invariants.violations().values() for name, count in names.items()}


def test_sound_rows_violate_nothing() -> None:
    for state in Message.State.values:
        sound_message(state)
    site = make_site()
    make_token(site, AccessToken.Kind.LOYALTY, "placeholder-loyalty")
    for number in range(6):
        consent.hear(
            site, channel="TEXT", address="+17705550101", source="WEBHOOK", event_at=timezone.now(),
            state=["SUBSCRIBED", "UNSUBSCRIBED"][number % 2],
        )  # fmt: skip
    consent.block(site, "+17705550101")
    consent.opt_out(site, "+17705550101")
    consent.lift_block(site, "+17705550101")
    consent.mark_to_ask(site, ["+17705550102"])
    consent.erase(site, "+17705550103")
    ImportJob.objects.create(
        site=site, phase="IMPORT", state="COMPLETE", read=3, created=1, rejected=2, rejects_file="r"
    )
    ExportJob.objects.create(site=site, state="COMPLETE", manifest={"files": []}, file="f")
    assert found() == {}
    assert invariants.states() == dict.fromkeys(Message.State.values, 1)


def lost_message() -> None:
    action = make_action(make_member(make_site()))
    edit(action, outcome="MATCHED", processed_at=timezone.now())


def unmatched_message() -> None:
    message = sound_message()
    edit(message.action, outcome="NO_CAMPAIGN")


def no_outcome() -> None:
    edit(make_action(make_member(make_site())), processed_at=timezone.now())


def outcome_before_processing() -> None:
    edit(make_action(make_member(make_site())), outcome="NO_CAMPAIGN")


def strange_state() -> None:
    edit(sound_message("QUEUED"), state="LIMBO")


def doubled_attempt() -> None:
    message = sound_message()
    attempt(message, 2, outcome="ACCEPTED")
    edit(message, attempt_count=2)


def accepted_and_due() -> None:
    edit(sound_message(), state="QUEUED")


def sent_without_attempt() -> None:
    edit(sound_message("QUEUED"), state="UNKNOWN")


def text_after_stop() -> None:
    message = sound_message()
    consent.opt_out(message.site, message.to)
    message.attempts.update(started_at=timezone.now() + timedelta(seconds=1))


def text_after_block() -> None:
    message = sound_message()
    consent.block(message.site, message.to)
    message.attempts.update(started_at=timezone.now() + timedelta(seconds=1))


def text_between_stop_and_return() -> None:
    message = sound_message()
    consent.opt_out(message.site, message.to)
    message.attempts.update(started_at=timezone.now())
    consent.hear(
        message.site, channel="TEXT", address=message.to, state="SUBSCRIBED", source="WEBHOOK",
        event_at=timezone.now() + timedelta(minutes=1),
    )  # fmt: skip


def open_attempt() -> None:
    edit(sound_message("SENDING"), state="UNKNOWN", lease_until=None)


def sending_without_open_attempt() -> None:
    sound_message("SENDING", outcome="UNKNOWN")


def unknown_made_quiet() -> None:
    for state in ("REFUSED", "SKIPPED", "EXPIRED", "CANCELLED"):
        edit(sound_message("UNKNOWN"), state=state)


def consent_behind_the_ledger() -> None:
    site = make_site()
    consent.opt_out(site, "+17705550101")
    Consent.objects.create(site=site, address="+17705550102", state="SUBSCRIBED")
    Consent.objects.filter(address="+17705550101").update(state="BLOCKED")


def broken_ledger() -> None:
    row = consent.opt_out(make_site(), "+17705550101")
    ConsentEvent.objects.create(consent=row, from_state="TO_ASK", to_state="UNSUBSCRIBED", source="STAFF")


def subscribed_over_stop() -> None:
    site, now = make_site(), timezone.now()
    for minutes, phone in ((0, "+17705550101"), (-1, "+17705550102"), (0, "+17705550103")):
        consent.hear(
            site, channel="TEXT", address=phone, state="SUBSCRIBED", source="WEBHOOK",
            event_at=now + timedelta(minutes=minutes),
        )  # fmt: skip
        consent.hear(site, channel="TEXT", address=phone, state="UNSUBSCRIBED", source="WEBHOOK", event_at=None)
    row = Consent.objects.get(address="+17705550101")
    ConsentEvent.objects.create(
        consent=row,
        from_state="SUBSCRIBED",
        to_state="SUBSCRIBED",
        heard="UNSUBSCRIBED",
        source="WEBHOOK",
        event_at=now,
    )


def subscribed_over_stop_before() -> None:
    """The stop was taken in, and an older subscription undid it."""
    now = timezone.now()
    row = consent.hear(
        make_site(), channel="TEXT", address="+17705550101", state="UNSUBSCRIBED", source="WEBHOOK", event_at=now
    )
    before = now - timedelta(minutes=1)
    ConsentEvent.objects.create(
        consent=row, from_state="UNSUBSCRIBED", to_state="SUBSCRIBED", source="WEBHOOK", event_at=before
    )
    edit(row, state="SUBSCRIBED", event_at=before)


def subscribed_over_stop_without_times() -> None:
    row = consent.hear(
        make_site(), channel="TEXT", address="+17705550101", state="SUBSCRIBED", source="WEBHOOK", event_at=None
    )
    ConsentEvent.objects.create(
        consent=row, from_state="SUBSCRIBED", to_state="SUBSCRIBED", heard="UNSUBSCRIBED", source="WEBHOOK"
    )


def stop_undone_by_a_list() -> None:
    site = make_site()
    for row in (consent.opt_out(site, "+17705550101"), consent.erase(site, "+17705550102")):
        ConsentEvent.objects.create(
            consent=row, from_state=row.state, to_state="TO_ASK", source="IMPORT", event_at=timezone.now()
        )
        edit(row, state="TO_ASK")


def calls(message: Message, count: int, *, apart: timedelta) -> None:
    """Calls for one message that did nothing, one after the other."""
    now = timezone.now()
    SendAttempt.objects.bulk_create(
        SendAttempt(message=message, number=n + 1, fence=n, outcome="RETRY", called_at=now + n * apart)
        for n in range(count)
    )
    edit(message, attempt_count=count)


def one_call_too_many() -> None:
    calls(sound_message("QUEUED"), settings.RATE_LIMITS["DEFAULT"] + 1, apart=timedelta(milliseconds=5))


def asked(site: Any, count: int, *, apart: timedelta) -> None:
    now = timezone.now()
    Consent.objects.bulk_create(
        Consent(site=site, address=f"+1770555{n:04d}", requested_at=now + n * apart) for n in range(count)
    )


def one_person_too_many() -> None:
    asked(make_site(), settings.RATE_LIMITS["SUBSCRIBE"] + 1, apart=timedelta(milliseconds=80))


def import_off_by_one() -> None:
    ImportJob.objects.create(site=make_site(), phase="IMPORT", state="RUNNING", read=3, created=1, unchanged=1)


def rejects_missing() -> None:
    ImportJob.objects.create(site=make_site(), phase="IMPORT", state="COMPLETE", read=1, rejected=1)


def export_without_manifest() -> None:
    ExportJob.objects.create(site=make_site(), state="COMPLETE", file="f")


def export_offered_early() -> None:
    ExportJob.objects.create(site=make_site(), state="FAILED", file="f", manifest={"files": []})


def message_of_another_sites_member() -> None:
    edit(sound_message(), member=make_member(make_site()))


def message_of_another_sites_campaign() -> None:
    edit(sound_message(), campaign=make_campaign(make_site()))


def message_of_another_sites_action() -> None:
    message, other = sound_message(), make_action(make_member(make_site()))
    edit(message.action, outcome="NO_CAMPAIGN")
    edit(other, outcome="MATCHED", processed_at=timezone.now())
    edit(message, action=other)


def message_of_another_version() -> None:
    message = sound_message()
    other = make_campaign(message.site, action_type=message.campaign.action_type)
    edit(message, version=CampaignVersion.objects.get(campaign=other))


def message_to_another_member() -> None:
    message = sound_message()
    edit(message, member=make_member(message.site))


def action_across_sites() -> None:
    edit(make_action(make_member(make_site())), member=make_member(make_site()))
    edit(make_action(make_member(make_site())), action_type=make_action_type(make_site()))


def campaign_across_sites() -> None:
    edit(make_campaign(make_site()), segment=Segment.objects.create(site=make_site(), name="Gold"))
    edit(make_campaign(make_site()), action_type=make_action_type(make_site()))


def member_across_sites() -> None:
    edit(make_member(make_site()), replaced_by=make_member(make_site()))
    edit(make_member(make_site()), created_by_import=ImportJob.objects.create(site=make_site()))


def export_across_sites() -> None:
    ExportJob.objects.create(site=make_site(), segment=Segment.objects.create(site=make_site(), name="Gold"))


def segment_across_sites() -> None:
    segment = Segment.objects.create(site=make_site(), name="Gold")
    SegmentMember.objects.create(segment=segment, member=make_member(make_site()))


def moved_secret() -> None:
    tokens = [make_token(make_site(), AccessToken.Kind.LOYALTY, f"placeholder-{number}") for number in range(2)]
    edit(tokens[0], sealed_secret=tokens[1].sealed_secret)


def open_ingest_key() -> None:
    AccessToken.objects.create(site=make_site(), kind="INGEST", secret_hash="ingest_in_the_open", set_at=timezone.now())
    make_token(make_site(), "INGEST", "ingest-placeholder", secret_hash="a" * 64)


def lost_lease() -> None:
    for state in ("CLAIMED", "SENDING"):
        edit(sound_message(state), lease_until=timezone.now() - timedelta(hours=1))


def lost_job() -> None:
    for model in (ImportJob, ExportJob):
        model.objects.create(site=make_site(), state="RUNNING", lease_until=timezone.now() - timedelta(hours=1))


def lost_webhook() -> None:
    WebhookEvent.objects.create(
        site=make_site(), digest="d", body="{}", received_at=timezone.now() - timedelta(hours=2)
    )


def wrong_attempt_count() -> None:
    edit(sound_message(), attempt_count=3)


def confirmed_and_unknown() -> None:
    sound_message("UNKNOWN", confirmed_at=timezone.now())


BREACHES: list[tuple[str, Callable[[], None], dict[str, int]]] = [
    ("I1", lost_message, {"matched actions without a message": 1}),
    ("I1", unmatched_message, {"messages of actions that matched nothing": 1}),
    ("I1", no_outcome, {"processed actions without an outcome": 1}),
    ("I1", outcome_before_processing, {"processed actions without an outcome": 1}),
    ("I1", strange_state, {"messages in no known state": 1}),
    ("I2", doubled_attempt, {"attempts after one that may have arrived, ordered by nobody": 1}),
    ("I2", accepted_and_due, {"messages that were accepted and are called not sent": 1}),
    ("I2", sent_without_attempt, {"messages sent without an attempt": 1}),
    ("I3", text_after_stop, {"opt-outs followed by a text": 1}),
    ("I3", text_after_block, {"opt-outs followed by a text": 1}),
    ("I3", text_between_stop_and_return, {"opt-outs followed by a text": 1}),
    ("I4", open_attempt, {"open attempts of messages that are not sending": 1}),
    ("I4", sending_without_open_attempt, {"messages sending without an open attempt": 1}),
    ("I4", unknown_made_quiet, {"unclear attempts of messages called not sent": 4}),
    ("I5", consent_behind_the_ledger, {"consents that differ from their ledger": 2}),
    ("I5", broken_ledger, {"ledger lines out of sequence": 1}),
    ("I5", subscribed_over_stop, {"subscriptions over a later opt-out": 1}),
    ("I5", subscribed_over_stop_before, {"subscriptions over a later opt-out": 1}),
    ("I5", subscribed_over_stop_without_times, {"subscriptions over a later opt-out": 1}),
    ("I5", stop_undone_by_a_list, {"opt-outs undone without a webhook": 2}),
    ("I6", one_call_too_many, {"texts and events beyond the limit of a second": 1}),
    ("I6", one_person_too_many, {"subscriptions beyond the limit of a second": 1}),
    ("I7", import_off_by_one, {"imports whose counters do not add up": 1}),
    ("I7", rejects_missing, {"imports with rejected rows and no file of them": 1}),
    ("I8", export_without_manifest, {"complete exports without a manifest": 1}),
    ("I8", export_offered_early, {"files of exports that are not complete": 1}),
    (
        "I9",
        message_of_another_sites_member,
        {"messages that cross sites": 1, "messages to another member than acted": 1},
    ),
    (
        "I9",
        message_of_another_sites_campaign,
        {"messages that cross sites": 1, "messages from another campaign's version": 1},
    ),
    (
        "I9",
        message_of_another_sites_action,
        {"messages that cross sites": 1, "messages to another member than acted": 1},
    ),
    ("I9", message_of_another_version, {"messages from another campaign's version": 1}),
    ("I9", message_to_another_member, {"messages to another member than acted": 1}),
    ("I9", action_across_sites, {"actions that cross sites": 2}),
    ("I9", campaign_across_sites, {"campaigns that cross sites": 2}),
    ("I9", member_across_sites, {"members that cross sites": 2}),
    ("I9", export_across_sites, {"exports that cross sites": 1}),
    ("I9", segment_across_sites, {"frozen segments with members of another site": 1}),
    ("I10", moved_secret, {"stored tokens that do not open in their row": 1}),
    ("I10", open_ingest_key, {"ingest keys kept otherwise than as a hash": 2}),
    ("I11", lost_lease, {"messages whose lease ended and nobody freed": 2}),
    ("I11", lost_job, {"imports and exports whose worker is gone": 2}),
    ("I11", lost_webhook, {"webhooks nobody worked on": 1}),
    ("I12", wrong_attempt_count, {"messages with a wrong count of attempts": 1}),
    ("I12", confirmed_and_unknown, {"messages confirmed and not accepted": 1}),
]


@pytest.mark.parametrize(("key", "breach", "expected"), BREACHES, ids=[breach.__name__ for _, breach, _ in BREACHES])
def test_each_breach_is_counted_where_it_belongs(
    key: str, breach: Callable[[], None], expected: dict[str, int]
) -> None:
    breach()
    counted = {key: names for key, names in invariants.violations().items() if names}
    assert counted == {key: expected}


def test_every_check_has_its_breach() -> None:
    breached = {name for _, _, expected in BREACHES for name in expected}
    checks = {name for invariant in invariants.INVARIANTS.values() for name in invariant.checks}
    # The database itself refuses a second message, with a unique key.
    assert checks - breached == {"pairs of campaign and action with several messages"}


def test_what_people_order_is_no_breach() -> None:
    message, waiting = sound_message("UNKNOWN"), sound_message("UNKNOWN")
    user = make_user(message.site)
    attempt(message, 2, outcome="REFUSED", resent_by=user)
    edit(message, state="REFUSED", attempt_count=2, resent_by=user)
    edit(waiting, state="EXPIRED", resent_by=user)
    assert found() == {}


def test_a_text_between_a_return_and_the_next_opt_out_is_no_breach() -> None:
    message, now = sound_message(), timezone.now()
    site, to = message.site, message.to
    consent.opt_out(site, to)
    consent.hear(
        site, channel="TEXT", address=to, state="SUBSCRIBED", source="WEBHOOK", event_at=now + timedelta(minutes=1)
    )
    message.attempts.update(started_at=timezone.now())
    consent.hear(
        site, channel="TEXT", address=to, state="UNSUBSCRIBED", source="WEBHOOK", event_at=now + timedelta(minutes=2)
    )
    # The same person may be texted by another site, where nobody opted out.
    other = sound_message()
    edit(other, to=to)
    other.attempts.update(started_at=timezone.now() + timedelta(minutes=5))
    assert found() == {}


def test_a_pace_that_is_kept_is_no_breach() -> None:
    limit, most = settings.RATE_LIMITS["DEFAULT"], settings.RATE_LIMITS["SUBSCRIBE"]
    calls(sound_message("QUEUED"), 2 * limit, apart=timedelta(seconds=1) / limit)
    asked(make_site(), 2 * most, apart=timedelta(seconds=1) / most)
    # Each site has its own tokens, and a token that was just replaced counted for itself.
    for _ in range(2):
        calls(sound_message("QUEUED"), limit, apart=timedelta(0))
        asked(make_site(), most, apart=timedelta(0))
    message = sound_message("QUEUED")
    make_token(message.site, AccessToken.Kind.ATTENTIVE_LEGACY, "placeholder", revoked_at=timezone.now())
    calls(message, limit + 1, apart=timedelta(milliseconds=1))
    assert found() == {}


@pytest.mark.parametrize(
    ("endpoint", "too_fast", "name"),
    [
        ("DEFAULT", lambda: calls(sound_message("QUEUED"), 40, apart=timedelta(milliseconds=10)), "texts and events"),
        ("SUBSCRIBE", lambda: asked(make_site(), 8, apart=timedelta(milliseconds=100)), "subscriptions"),
    ],
)
def test_a_limit_that_was_lowered_judges_only_what_came_after(
    settings: Any, endpoint: str, too_fast: Callable[[], None], name: str
) -> None:
    rate_limit.reserve(f"token:{endpoint}", settings.RATE_LIMITS[endpoint], 1)
    too_fast()
    time.sleep(1)
    assert found() == {}
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, endpoint: 4}
    # Whoever looks before the first call under the new limit, and after it.
    assert found() == {}
    rate_limit.reserve(f"token:{endpoint}", 4, 1)
    rate_limit.reserve(f"another token:{endpoint}", 4, 1)
    assert found() == {}
    too_fast()
    assert list(found()) == [f"{name} beyond the limit of a second"]


def test_work_is_given_some_time_to_be_freed() -> None:
    edit(sound_message("SENDING"), lease_until=timezone.now() - timedelta(minutes=1))
    ImportJob.objects.create(site=make_site(), state="RUNNING", lease_until=timezone.now() - timedelta(minutes=1))
    WebhookEvent.objects.create(site=make_site(), digest="d", body="{}")
    assert found() == {}
