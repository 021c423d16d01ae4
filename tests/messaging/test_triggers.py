from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from loyalty.models import LoyaltyAction, Segment, Site
from messaging.models import Campaign, Message
from messaging.triggers import match_actions
from tests.concurrency import meanwhile
from tests.factories import make_action, make_action_type, make_campaign, make_member, make_site

pytestmark = pytest.mark.django_db


def ago(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn each timedelta into the moment so long ago."""
    now = timezone.now()
    return {name: now - value if isinstance(value, timedelta) else value for name, value in fields.items()}


def outcome_of(action: LoyaltyAction) -> str:
    match_actions()
    action.refresh_from_db()
    assert action.processed_at is not None
    return action.outcome


def test_each_matching_campaign_makes_one_message_and_other_sites_none() -> None:
    ours, theirs = make_site(), make_site()
    first, second = make_campaign(ours, "One {{ first_name }}"), make_campaign(ours, "Two", state=Campaign.State.PAUSED)
    make_campaign(theirs, "Not ours")
    make_campaign(ours, "Another action", action_type=make_action_type(ours, "101", "Welcome"))
    make_campaign(ours, "A draft", state=Campaign.State.DRAFT)
    action = make_action(make_member(ours, first_name="Ada"))
    assert outcome_of(action) == "MATCHED"
    messages = Message.objects.order_by("campaign")
    assert [(m.campaign, m.body, m.state, m.reason) for m in messages] == [
        (first, "One Ada", "QUEUED", ""),
        (second, "Two", "HELD", "CAMPAIGN_PAUSED"),
    ]
    assert [(m.site, m.action, m.to, m.version) for m in messages] == [
        (ours, action, action.member.phone, first.version),
        (ours, action, action.member.phone, second.version),
    ]
    assert match_actions() == 0


def test_a_campaign_never_speaks_of_an_action_at_another_site() -> None:
    """Not even when it was given that site's kind of action."""
    ours, theirs = make_member(make_site()), make_member(make_site())
    action = make_action(ours)
    make_action(theirs)
    make_campaign(theirs.site, action_type=action.action_type)
    assert outcome_of(action) == "NO_CAMPAIGN"


@pytest.mark.parametrize(
    ("site", "campaign", "action", "outcome"),
    [
        ({}, {}, {}, "MATCHED"),
        ({"state": "TEST"}, {}, {}, "MATCHED"),
        ({"state": "PAUSED"}, {}, {}, "MATCHED"),
        ({"state": "DRAFT"}, {}, {}, "SITE_DRAFT"),
        ({"activated_at": timedelta(minutes=5)}, {}, {"occurred_at": timedelta(minutes=6)}, "BEFORE_LIVE"),
        ({}, {"went_live_at": timedelta(minutes=5)}, {"occurred_at": timedelta(minutes=6)}, "BEFORE_LIVE"),
        ({}, {}, {"occurred_at": timedelta(hours=73)}, "TOO_OLD"),
        ({}, {"expiry_hours": 1}, {"occurred_at": timedelta(minutes=61)}, "TOO_OLD"),
        ({}, {"expiry_hours": 1}, {"occurred_at": timedelta(minutes=59)}, "MATCHED"),
        ({}, {"route": "EVENT"}, {"occurred_at": timedelta(hours=13)}, "TOO_OLD"),
        ({}, {"starts_at": timedelta(minutes=5)}, {"occurred_at": timedelta(minutes=6)}, "OUTSIDE_WINDOW"),
        ({}, {"ends_at": timedelta(minutes=5)}, {"occurred_at": timedelta(minutes=4)}, "OUTSIDE_WINDOW"),
        ({}, {"state": "DRAFT"}, {}, "NO_CAMPAIGN"),
        ({}, {"state": "REVIEW"}, {}, "NO_CAMPAIGN"),
    ],
)
def test_why_an_action_becomes_a_message_or_not(
    site: dict[str, Any], campaign: dict[str, Any], action: dict[str, Any], outcome: str
) -> None:
    row = make_site(**ago(site))
    make_campaign(row, **ago(campaign))
    assert outcome_of(make_action(make_member(row), **ago(action))) == outcome
    assert Message.objects.exists() == (outcome == "MATCHED")


def test_what_went_by_unmatched_is_never_texted_later() -> None:
    site = make_site(state=Site.State.DRAFT)
    make_campaign(site)
    action = make_action(make_member(site))
    assert outcome_of(action) == "SITE_DRAFT"
    Site.objects.update(state=Site.State.LIVE)
    assert match_actions() == 0
    assert not Message.objects.exists()


def test_a_segment_chooses_whom_a_campaign_speaks_to() -> None:
    site = make_site()
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    make_campaign(site, segment=segment)
    gold, silver = make_member(site, tier="Gold"), make_member(site, tier="Silver")
    inside, outside = make_action(gold), make_action(silver)
    assert outcome_of(inside) == "MATCHED"
    assert outcome_of(outside) == "NOT_IN_SEGMENT"
    assert [m.member for m in Message.objects.all()] == [gold]


def test_a_text_that_cannot_be_made_is_a_skipped_message() -> None:
    site = make_site()
    make_campaign(site, "Hello {{ first_name }}")
    make_action(make_member(site, first_name=""))
    make_action(make_member(site, first_name="{a}"))
    match_actions()
    assert [(m.state, m.reason) for m in Message.objects.order_by("pk")] == [
        ("SKIPPED", "MISSING_VALUE"),
        ("SKIPPED", "BRACE"),
    ]


def test_a_message_keeps_the_version_it_was_made_from_and_expires_with_its_campaign() -> None:
    site = make_site()
    campaign = make_campaign(site, expiry_hours=10)
    action = make_action(make_member(site))
    match_actions()
    message = Message.objects.get()
    assert message.version == campaign.version
    assert message.expires_at == action.occurred_at + timedelta(hours=10)


def test_test_mode_skips_everybody_but_guests() -> None:
    site = make_site(state=Site.State.TEST)
    make_campaign(site)
    guest, other = make_member(site), make_member(site)
    Site.objects.update(guest_phones=[guest.phone])
    make_action(guest), make_action(other)
    match_actions()
    assert [(m.member, m.state, m.reason) for m in Message.objects.order_by("pk")] == [
        (guest, "QUEUED", ""),
        (other, "SKIPPED", "TEST_MODE"),
    ]


def test_a_shadow_campaign_shows_the_text_and_sends_nothing() -> None:
    site = make_site()
    make_campaign(site, "Thanks {{ first_name }}!", is_shadow=True)
    make_action(make_member(site, first_name="Ada"))
    match_actions()
    message = Message.objects.get()
    assert (message.state, message.reason, message.body) == ("SKIPPED", "SHADOW", "Thanks Ada!")


def test_the_cost_of_matching_does_not_grow_with_the_slice(django_assert_num_queries: Any) -> None:
    site = make_site()
    make_campaign(site)
    make_action(make_member(site))
    with django_assert_num_queries(6):
        match_actions()
    for _ in range(40):
        make_action(make_member(site))
    with django_assert_num_queries(6):
        match_actions()


def test_an_action_that_is_matched_again_makes_no_second_message() -> None:
    """Not even when the mark on it is gone, as in a database that was restored by half."""
    member = make_member(make_site())
    campaign = make_campaign(member.site)
    action = make_action(member, action_type=campaign.action_type)
    match_actions()
    LoyaltyAction.objects.update(processed_at=None, outcome="")
    match_actions()
    assert Message.objects.filter(campaign=campaign, action=action).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_processes_never_match_the_same_action() -> None:
    member = make_member(make_site())
    make_action(member, action_type=make_campaign(member.site).action_type)
    with transaction.atomic():
        assert match_actions() == 1
        other = meanwhile(match_actions)
    assert other.result() == 0
