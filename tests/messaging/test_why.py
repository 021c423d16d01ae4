"""Why did this person get no text? Each way of getting none has its reason on the action's page."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from loyalty.models import LoyaltyAction, Segment, Site
from messaging import why
from messaging.models import Campaign, Message, SendAttempt
from messaging.triggers import match_actions
from tests.factories import make_action, make_action_type, make_campaign, make_member, make_message, make_site

pytestmark = pytest.mark.django_db
PHONE = "+1 ••• ••• 0101"


def only_finding(action: LoyaltyAction) -> why.Finding:
    (found,) = why.findings(action, phone=PHONE)
    return found


def matched(site: Site, **fields: Any) -> LoyaltyAction:
    action = make_action(make_member(site), **fields)
    match_actions()
    action.refresh_from_db()
    return action


def test_an_action_that_waits_says_so() -> None:
    site = make_site()
    make_campaign(site)
    assert only_finding(make_action(make_member(site))).code == "WAITING"


def test_a_message_is_found_with_its_state() -> None:
    site = make_site()
    campaign = make_campaign(site)
    found = only_finding(matched(site))
    assert found.campaign == campaign
    assert found.message is not None and found.message.state == Message.State.QUEUED


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"state": Campaign.State.DRAFT}, "CAMPAIGN_NOT_LIVE"),
        ({"went_live_at": timezone.now() + timedelta(hours=1)}, "BEFORE_LIVE"),
        ({"ends_at": timezone.now() - timedelta(hours=1)}, "OUTSIDE_WINDOW"),
    ],
)
def test_a_campaign_that_met_nothing_says_why(fields: dict[str, Any], code: str) -> None:
    site = make_site()
    make_campaign(site, **fields)
    found = only_finding(matched(site))
    assert (found.message, found.code) == (None, code)
    assert found.reason.title


def test_an_old_action_and_one_outside_the_segment_say_so() -> None:
    site = make_site()
    campaign = make_campaign(site, expiry_hours=1)
    assert only_finding(matched(site, occurred_at=timezone.now() - timedelta(hours=2))).code == "TOO_OLD"
    campaign.segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    campaign.save()
    assert only_finding(matched(site)).code == "NOT_IN_SEGMENT"


def test_a_campaign_that_changed_since_says_so() -> None:
    site = make_site()
    campaign = make_campaign(site, state=Campaign.State.DRAFT)
    action = matched(site)
    Campaign.objects.filter(pk=campaign.pk).update(state=Campaign.State.LIVE)
    assert only_finding(action).code == "CHANGED"


def test_history_is_told_as_history() -> None:
    site = make_site()
    make_campaign(site)
    action = make_action(make_member(site), processed_at=timezone.now(), outcome="HISTORY")
    assert only_finding(action).code == "HISTORY"


def test_campaigns_of_other_actions_are_counted_and_other_sites_are_not() -> None:
    site = make_site()
    make_campaign(site, action_type=make_action_type(site, "OTHER"))
    make_campaign(make_site())
    action = matched(site)
    assert why.findings(action, phone=PHONE) == []
    assert why.other_campaigns(action) == 1


def test_a_refusal_is_told_in_attentives_words_without_the_phone() -> None:
    site = make_site(client_name="Harbor")
    member = make_member(site, phone="+17705550142")
    message = make_message(member, state=Message.State.REFUSED, reason="REFUSED")
    SendAttempt.objects.create(
        message=message, number=1, fence=1, outcome="REFUSED", http_status=400, answer="no (770) 555-0142 here"
    )
    reason = why.reason_of(message, phone=PHONE)
    assert "400" in reason.title
    assert "here" in reason.cause and "0142 here" in reason.cause and "555-0142" not in reason.cause


@pytest.mark.parametrize("state", Message.State.values)
def test_every_state_without_a_code_has_words(state: str) -> None:
    message = make_message(make_member(make_site()))
    message.state = state
    assert why.reason_of(message, phone=PHONE).title
