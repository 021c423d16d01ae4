"""The numbers of Home: each message counted once, in its day and group; other tenants never."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from attentive_integration.markup import number
from loyalty import capped_counts
from loyalty.capped_counts import CountOf, at_least, estimated_counts
from loyalty.models import Consent, Site
from messaging import overview
from messaging.overview import badges, outcomes, queues
from tests.factories import make_action, make_campaign, make_consent, make_member, make_message, make_site

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)


def test_messages_are_counted_by_group_day_and_reason_in_two_queries() -> None:
    member = make_member(make_site())
    campaign = make_campaign(member.site)
    for state, hours, reason in (
        ("ACCEPTED", 1, ""), ("ACCEPTED", 23, ""), ("ACCEPTED", 25, ""), ("SKIPPED", 30, "NOT_SUBSCRIBED"),
        ("EXPIRED", 100, "EXPIRED"), ("REFUSED", 2, "UNMATCHED"), ("HELD", 2, "TOKEN_REFUSED"), ("QUEUED", 0, ""),
        ("ACCEPTED", 24 * 8, ""),
    ):  # fmt: skip
        make_message(member, campaign, state=state, reason=reason, created_at=NOW - timedelta(hours=hours))
    with CaptureQueriesContext(connection) as queries:
        found = outcomes(Site.objects.filter(pk=member.site_id), NOW)
    assert len(queries) == 2
    assert found.last_day == {"accepted": 2, "refused": 1, "held": 1, "waiting": 1}
    assert found.last_week == {"accepted": 3, "skipped": 2, "refused": 1, "held": 1, "waiting": 1}
    assert found.reasons["SKIPPED", "NOT_SUBSCRIBED"] == 1
    assert len(found.days) == 7
    assert [start.date().day for start, _counts in found.days] == [19, 20, 21, 22, 23, 24, 25]
    assert found.days[-1][1] == {"accepted": 1, "refused": 1, "held": 1, "waiting": 1}
    assert found.days[-2][1] == {"accepted": 2, "skipped": 1}
    assert sum(found.last_week.values()) == sum(sum(counts.values()) for _start, counts in found.days)


def test_of_a_state_with_many_messages_a_sample_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_FEW", 10)
    monkeypatch.setattr(capped_counts, "SAMPLE", 60)
    site, other = make_site(), make_site()
    for owner in (site, other):
        member, campaign = make_member(owner), make_campaign(owner)
        for _ in range(3):
            make_message(member, campaign, state="REFUSED", reason="UNMATCHED", created_at=NOW - timedelta(hours=30))
        for second in range(80):
            make_message(member, campaign, state="ACCEPTED", created_at=NOW - timedelta(seconds=90 - second))
    with CaptureQueriesContext(connection) as queries:
        found = outcomes(Site.objects.filter(pk=site.pk), NOW)
    assert len(queries) == 2
    assert (found.last_week["refused"], found.reasons["REFUSED", "UNMATCHED"]) == (3, 3)
    assert 60 <= found.last_week["accepted"] <= 100
    assert number(found.last_week["accepted"]).startswith("≈ ") and number(found.last_week["refused"]) == "3"
    assert number(sum(found.last_week.values())).startswith("≈ ")


def test_a_long_subscribe_queue_is_estimated_and_the_other_queues_stop_counting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (overview, capped_counts):
        monkeypatch.setattr(module, "COUNT_CAP", 20)
    monkeypatch.setattr(CountOf.__init__, "__defaults__", (20,))
    monkeypatch.setattr(at_least, "__defaults__", (20,))
    monkeypatch.setattr(capped_counts, "SAMPLE", 40)
    site, other = make_site(), make_site()
    for owner in (site, other):
        for _ in range(50):
            make_consent(make_member(owner), Consent.State.TO_ASK)
    member = make_member(site)
    for _ in range(21):
        make_message(member, state="UNKNOWN")
    waiting = queues(Site.objects.filter(pk=site.pk))
    assert 30 <= waiting["to_ask"].count <= 70 and number(waiting["to_ask"].count).startswith("≈ ")
    assert number(waiting["unknown"].count) == "≥ 20"
    assert number(badges(Site.objects.filter(pk=site.pk))["unknown"]) == "≥ 20"
    assert estimated_counts(Consent.objects.filter(state="TO_ASK"), Site.objects.filter(pk=site.pk)).keys() == {site.pk}


def test_queues_and_badges_know_their_age_and_their_tenant() -> None:
    now = timezone.now()
    ours, theirs = make_site(), make_site()
    for site in (ours, theirs):
        member = make_member(site)
        make_action(member, recorded_at=now - timedelta(minutes=9))
        make_message(member, state="QUEUED", due_at=now - timedelta(minutes=3))
        make_message(member, state="QUEUED", due_at=now + timedelta(minutes=3))
        make_message(member, state="UNKNOWN")
        make_consent(member, Consent.State.TO_ASK)
    scope = Site.objects.filter(pk=ours.pk).order_by()
    with CaptureQueriesContext(connection) as queries:
        waiting = queues(scope, now)
        counted = badges(scope)
    assert len(queries) == 2
    assert (waiting["messages"].count, waiting["messages"].oldest) == (1, now - timedelta(minutes=3))
    # The actions behind the messages of this test wait too, but are newer.
    assert waiting["actions"].oldest == now - timedelta(minutes=9)
    assert (waiting["to_ask"].count, waiting["unknown"].count, waiting["webhooks"].count) == (1, 1, 0)
    assert counted["unknown"] == 1
    assert queues(Site.objects.none(), now)["held"].oldest is None
