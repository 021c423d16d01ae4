"""An action's page answers why this person got no text; a webhook's raw body is for developers alone."""

from typing import Any

import pytest
from django.urls import reverse

from loyalty.models import SiteMembership
from messaging.models import Campaign, WebhookEvent
from messaging.triggers import match_actions
from tests.factories import make_action, make_campaign, make_member, make_site, make_user

from .test_pages import log_in

Role = SiteMembership.Role
pytestmark = pytest.mark.django_db
ACTIONS = reverse("admin:loyalty_loyaltyaction_changelist")


def test_each_campaign_is_listed_with_its_reason() -> None:
    site = make_site()
    make_campaign(site, name="Running")
    make_campaign(site, name="Written", state=Campaign.State.DRAFT)
    action = make_action(make_member(site, phone="+17705550142"), data={"shop": "Oak"})
    match_actions()
    client = log_in(make_user(site, role=Role.SUPPORT))
    html = client.get(reverse("admin:loyalty_loyaltyaction_change", args=[action.pk])).content.decode()
    for words in ("Running", "Waits for its turn", "Written", "Not sent: the campaign is not live", "Oak", "0142"):
        assert words in html
    assert "770-555-0142" not in html


def test_an_action_without_a_campaign_says_what_to_do() -> None:
    site = make_site()
    action = make_action(make_member(site))
    match_actions()
    client = log_in(make_user(site))
    html = client.get(reverse("admin:loyalty_loyaltyaction_change", args=[action.pk])).content.decode()
    assert "Why did this person get no text?" in html and "New campaign" in html


@pytest.mark.parametrize("words", ["(770) 555-0142", "M-7", "wanted-1"])
def test_actions_are_found_by_person_and_by_id(words: str) -> None:
    site = make_site()
    make_action(make_member(site, phone="+17705550142", external_id="M-7"), activity_id="wanted-1")
    make_action(make_member(site), activity_id="other-1")
    html: Any = log_in(make_user(site)).get(ACTIONS, {"q": words}).content.decode()
    assert "wanted-1" in html and "other-1" not in html


def test_outcomes_and_members_narrow_the_list() -> None:
    site = make_site()
    member = make_member(site)
    make_action(member, activity_id="waiting-1")
    done = make_action(make_member(site), activity_id="done-1", outcome="NO_CAMPAIGN")
    done.processed_at = done.recorded_at
    done.save()
    client = log_in(make_user(site))
    for query in ({"outcome": "WAITING"}, {"member": member.pk}):
        html = client.get(ACTIONS, query).content.decode()
        assert "waiting-1" in html and "done-1" not in html
    assert "done-1" in client.get(ACTIONS, {"outcome": "NO_CAMPAIGN"}).content.decode()


@pytest.mark.parametrize(("role", "sees"), [(Role.SUPPORT, False), (Role.MANAGER, False), (Role.DEVELOPER, True)])
def test_the_raw_body_is_for_developers(role: str, sees: bool) -> None:
    site = make_site()
    event = WebhookEvent.objects.create(
        site=site, digest="d", type="sms.sent", state="FAILED", error="No phone", body='{"phone": "+17705550142"}'
    )
    client = log_in(make_user(site, role=role))
    html = client.get(reverse("admin:messaging_webhookevent_change", args=[event.pk])).content.decode()
    assert "No phone" in html
    assert ("+17705550142" in html) == sees
    assert "+17705550142" not in client.get(reverse("admin:messaging_webhookevent_changelist")).content.decode()
