"""A campaign is written, reviewed, taken live and paused in that order, and each edit of its text is a version."""

from typing import Any

import pytest

from loyalty.models import AuditEntry, Site
from messaging import campaigns, text
from messaging.campaigns import CampaignRefused
from messaging.models import Campaign
from messaging.starters import STARTERS, starter
from tests.factories import make_action_type, make_campaign, make_member, make_message, make_site, make_user

State = Campaign.State
pytestmark = pytest.mark.django_db


@pytest.fixture
def draft() -> Campaign:
    site = make_site()
    return campaigns.create(site, name="Thanks", action_type=make_action_type(site), content={"body": "Thanks!"})


def events(campaign: Campaign) -> list[str]:
    return list(AuditEntry.objects.filter(site=campaign.site).order_by("pk").values_list("event", flat=True))


def test_an_edit_of_the_text_is_a_version_and_messages_keep_theirs(draft: Campaign) -> None:
    user = make_user(draft.site)
    message = make_message(make_member(draft.site), draft)
    second = campaigns.save_content(draft, {"body": "Thank you, {{ first_name|friend }}!"}, by=user)
    assert (second.number, second.created_by) == (2, user)
    draft.refresh_from_db()
    message.refresh_from_db()
    assert draft.version == second
    assert message.version.body == "Thanks!"
    assert "campaign.content_changed" in events(draft)


def test_the_same_text_makes_no_version(draft: Campaign) -> None:
    assert campaigns.save_content(draft, {"body": "Thanks!"}).number == 1
    assert draft.versions.count() == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"body": "Hi {{ frist_name }}"}, "first_name"),
        ({"body": "Hi {name}"}, "brace"),
        ({"body": "  "}, "empty"),
        ({"body": "Hi", "link": "http://example.com/a"}, "https"),
        ({"body": "Hi", "media_url": "https://example.com/a.bmp"}, "gif, png or jpg"),
    ],
)
def test_what_could_not_be_sent_is_not_saved(draft: Campaign, content: dict[str, str], words: str) -> None:
    with pytest.raises(CampaignRefused, match=words):
        campaigns.save_content(draft, content)
    assert draft.versions.count() == 1


def test_a_path_that_takes_no_picture_says_so(draft: Campaign) -> None:
    draft.site.message_path = Site.MessagePath.SUBSCRIPTIONS
    with pytest.raises(CampaignRefused, match="takes no link and no picture"):
        campaigns.save_content(draft, {"body": "Hi", "media_url": "https://example.com/a.png"})


def test_an_event_needs_no_text_but_a_type_that_attentive_takes() -> None:
    site = make_site()
    kind = make_action_type(site)
    route = Campaign.Route.EVENT
    made = campaigns.create(site, name="Journey", action_type=kind, content={"event_type": "Purchase"}, route=route)
    assert made.version is not None and made.version.event_type == "Purchase"
    with pytest.raises(CampaignRefused, match="event type"):
        campaigns.create(site, name="Bad", action_type=kind, content={"event_type": "a|b"}, route=route)


def test_the_way_to_live_and_back_to_a_pause(draft: Campaign) -> None:
    with pytest.raises(CampaignRefused):
        campaigns.go_live(draft)
    campaigns.submit(draft)
    campaigns.send_back(draft)
    campaigns.submit(draft)
    campaigns.go_live(draft, canary_size=50)
    assert draft.state == State.LIVE
    assert (draft.canary_size, draft.canary_passed_at) == (50, None)
    assert draft.went_live_at is not None and draft.went_live_at.microsecond == 0
    went_live_at = draft.went_live_at
    campaigns.pause(draft)
    campaigns.resume(draft)
    draft.refresh_from_db()
    assert (draft.state, draft.went_live_at) == (State.LIVE, went_live_at)
    campaigns.end_canary(draft)
    assert draft.canary_passed_at is not None
    assert events(draft)[-6:] == [
        "campaign.sent_back", "campaign.submitted", "campaign.live", "campaign.paused", "campaign.resumed",
        "campaign.canary_ended",
    ]  # fmt: skip


def test_a_second_press_on_a_stale_page_changes_nothing(draft: Campaign) -> None:
    stale = Campaign.objects.get(pk=draft.pk)
    campaigns.submit(draft)
    campaigns.go_live(draft)
    went_live_at = draft.went_live_at
    with pytest.raises(CampaignRefused, match="meanwhile"):
        campaigns.submit(stale)
    draft.refresh_from_db()
    assert (draft.state, draft.went_live_at) == (State.LIVE, went_live_at)


def test_settings_are_saved_with_what_changed(draft: Campaign) -> None:
    draft.expiry_hours, draft.is_shadow = 24, True
    assert campaigns.save_settings(draft) == ["expiry_hours", "is_shadow"]
    entry = AuditEntry.objects.get(event="campaign.settings_changed")
    assert (entry.old, entry.new) == ({"expiry_hours": 72, "is_shadow": False}, {"expiry_hours": 24, "is_shadow": True})
    assert campaigns.save_settings(draft) == []


def test_a_campaign_that_runs_keeps_its_action_and_route() -> None:
    campaign = make_campaign(make_site())
    campaign.route = Campaign.Route.EVENT
    with pytest.raises(CampaignRefused, match="keeps its action"):
        campaigns.save_settings(campaign)
    campaign.refresh_from_db()
    assert campaign.route == Campaign.Route.MESSAGE


def test_two_campaigns_of_a_site_have_two_names(draft: Campaign) -> None:
    other = make_campaign(draft.site, name="Other")
    other.name = "Thanks"
    with pytest.raises(CampaignRefused, match="another campaign"):
        campaigns.save_settings(other)
    elsewhere = make_site()
    again = campaigns.create(elsewhere, name="Thanks", action_type=make_action_type(elsewhere), content={"body": "Hi"})
    assert again.name == "Thanks"


def test_an_earlier_version_comes_back_as_the_newest(draft: Campaign) -> None:
    campaigns.save_content(draft, {"body": "Second"})
    restored = campaigns.restore_version(draft, 1)
    assert (restored.number, restored.body) == (3, "Thanks!")
    with pytest.raises(CampaignRefused, match="no version 9"):
        campaigns.restore_version(draft, 9)


def test_a_copy_is_a_draft_with_a_name_of_its_own() -> None:
    campaign = make_campaign(make_site(), name="Thanks", expiry_hours=5)
    first, second = campaigns.duplicate(campaign), campaigns.duplicate(campaign)
    assert (first.name, second.name) == ("Copy of Thanks", "Copy of Thanks 2")
    assert (first.state, first.expiry_hours, first.went_live_at) == (State.DRAFT, 5, None)
    assert first.version is not None and campaign.version is not None
    assert first.version.body == campaign.version.body


def test_there_are_a_dozen_texts_to_start_from_and_each_can_be_sent() -> None:
    assert len(STARTERS) == 12
    member = make_member(make_site(), points=None, first_name="")
    for one in STARTERS:
        text.check_body(one.body)
        rendered: Any = text.render(one.body, member, None)
        assert rendered.reason == "", one.slug
        assert text.parts(one.body).encoding == "GSM-7", one.slug
        assert starter(one.slug) is one
    assert starter("none") is None
