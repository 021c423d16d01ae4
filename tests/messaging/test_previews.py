"""What a campaign would say, and whom it would have met last week."""

from datetime import timedelta

import pytest
from django.utils import timezone

from loyalty.models import Segment
from messaging import previews
from messaging.previews import Audience
from tests.factories import make_action, make_action_type, make_campaign, make_consent, make_member, make_site

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("words", ["(770) 555-0142", "+17705550142", "770.555.0142", "Ada@Example.com", "M-1"])
def test_a_member_is_found_by_any_name_within_the_site(words: str) -> None:
    site, other = make_site(), make_site()
    member = make_member(site, phone="+17705550142", email="ada@example.com", external_id="M-1")
    make_member(other, phone="+17705550142", email="ada@example.com", external_id="M-1")
    assert previews.find_member(site, words) == member
    assert previews.find_member(site, "  ") is None


def test_a_week_is_estimated_from_its_actions() -> None:
    site = make_site()
    gold, silver = make_member(site, tier="Gold"), make_member(site, tier="Silver")
    make_consent(gold)
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    campaign = make_campaign(site, segment=segment)
    now = timezone.now()
    for member in (gold, gold, silver):
        make_action(member)
    make_action(gold, recorded_at=now - timedelta(days=8))
    make_action(gold, action_type=make_action_type(site, "OTHER"))
    stranger = make_member(make_site())
    make_action(stranger)
    reach = Audience(campaign).reach
    assert (reach.actions, reach.members, reach.in_segment, reach.reachable) == (3, 2, 1, 1)
    assert not reach.is_capped


def test_people_come_from_actions_of_the_kind_with_their_values() -> None:
    site = make_site(sms_prefix="Harbor:")
    member = make_member(site, first_name="Grace")
    make_action(member, points_delta=7, data={"shop": "Oak", "no good": 1})
    campaign = make_campaign(site)
    audience = Audience(campaign)
    found = previews.previews(campaign, "{{ first_name }} got {{ points_delta }} at {{ data.shop }}", audience)
    assert [(one.member, one.text) for one in found[:-1]] == [(member, "Grace got 7 at Oak")]
    assert found[-1].member is None and len(found[-1].text) > len(found[0].text)
    assert found[0].parts.units == len("Harbor: Grace got 7 at Oak")
    assert audience.data_keys == ["shop"]


def test_a_chosen_member_comes_first_and_a_missing_value_is_told() -> None:
    site = make_site()
    campaign = make_campaign(site)
    chosen = make_member(site)
    first = previews.previews(campaign, "You got {{ points_delta }}", Audience(campaign), chosen)[0]
    assert first.is_chosen and first.member == chosen
    assert (first.text, first.reason, first.detail) == ("", "MISSING_VALUE", "points_delta")


def test_the_prefix_is_told_apart_from_the_text() -> None:
    assert previews.prefixed(make_site(sms_prefix="Harbor:"), "Hi") == ("Harbor: ", "Hi")
    assert previews.prefixed(make_site(), "Hi") == ("", "Hi")
