"""The campaign pages: from a text to a live campaign, with a preview that saves nothing and rights that hold."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from attentive_integration.pictures import Picture
from attentive_integration.sandbox.process import SandboxProcess
from loyalty.models import Site, SiteMembership
from messaging import campaigns
from messaging.models import Campaign, Message
from tests.factories import (
    make_action,
    make_action_type,
    make_campaign,
    make_consent,
    make_member,
    make_message,
    make_site,
    make_user,
)
from tests.messaging.world import World

from .test_pages import log_in

Role = SiteMembership.Role
State = Campaign.State
pytestmark = pytest.mark.django_db
ADD = reverse("admin:messaging_campaign_add")


@pytest.fixture
def site() -> Site:
    return make_site(sms_prefix="Harbor:")


@pytest.fixture
def client(site: Site) -> Any:
    return log_in(make_user(site, role=Role.MANAGER))


@pytest.fixture
def draft(site: Site) -> Campaign:
    return campaigns.create(site, name="Thanks", action_type=make_action_type(site), content={"body": "Thanks!"})


def editor(campaign: Campaign) -> str:
    return reverse("admin:messaging_campaign_change", args=[campaign.pk])


def act(client: Any, campaign: Campaign, name: str) -> None:
    assert client.post(reverse("admin:messaging_campaign_action", args=[campaign.pk, name])).status_code == 302
    campaign.refresh_from_db()


def form(campaign: Campaign, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": campaign.name, "action_type": campaign.action_type_id, "route": campaign.route, "segment": "",
        "expiry_hours": 72, "quiet_policy": "DELAY", "priority": 0, "canary_size": 0,
        "body": campaign.version.body if campaign.version else "", "link": "", "media_url": "", "event_type": "",
        "seen_version": campaign.version.number if campaign.version else 0,
    }  # fmt: skip
    return {**fields, **changes}


def test_a_campaign_starts_from_a_text(client: Any, site: Site) -> None:
    kind = make_action_type(site, "BIRTHDAY", "Birthday")
    assert client.get(f"{ADD}?site={site.site_id}").content.count(b"Use this text") == 12
    url = f"{ADD}?site={site.site_id}&start=birthday"
    assert f'value="{kind.pk}" selected' in client.get(url).content.decode()
    assert not Campaign.objects.exists()
    client.post(url, {"name": "Birthday", "action_type": kind.pk})
    campaign = Campaign.objects.get()
    assert (campaign.state, campaign.action_type, campaign.site) == (State.DRAFT, kind, site)
    assert campaign.version is not None and "Happy birthday" in campaign.version.body


def test_a_new_action_id_makes_its_kind_and_another_sites_kind_is_refused(client: Any, site: Site) -> None:
    url = f"{ADD}?site={site.site_id}&start=welcome"
    foreign = make_action_type(make_site())
    assert "alert" in client.post(url, {"name": "Welcome", "action_type": foreign.pk}).content.decode()
    assert not Campaign.objects.exists()
    client.post(url, {"name": "Welcome", "action_type": "", "new_code": "101"})
    assert Campaign.objects.get().action_type.code == "101"


def test_saving_the_editor_makes_a_version_and_keeps_settings(client: Any, draft: Campaign) -> None:
    client.post(editor(draft), form(draft, body="Thanks, {{ first_name|friend }}!", expiry_hours=24, _save=""))
    draft.refresh_from_db()
    assert draft.expiry_hours == 24
    assert draft.version is not None
    assert (draft.version.number, draft.version.body) == (2, "Thanks, {{ first_name|friend }}!")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": "Hi {{ frist_name }}"}, "Did you mean {{ first_name }}?"),
        ({"body": "Hi {you}"}, "A brace is left over"),
        ({"media_url": "https://example.com/a.bmp"}, "gif, png or jpg"),
        ({"expiry_hours": 0}, "Choose between 1 and 720 hours"),
        ({"starts_at": "2026-12-02T10:00", "ends_at": "2026-12-01T10:00"}, "The end must come after the start"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field_and_not_saved(
    client: Any, draft: Campaign, changes: dict[str, Any], words: str
) -> None:
    answer = client.post(editor(draft), form(draft, **changes))
    assert answer.status_code == 200
    assert words in answer.content.decode()
    stored = Campaign.objects.get()
    assert stored.versions.count() == 1 and stored.expiry_hours == 72 and stored.starts_at is None


def test_a_newer_version_of_a_colleague_is_not_overwritten_unseen(client: Any, draft: Campaign) -> None:
    mine = form(draft, body="Mine")
    campaigns.save_content(draft, {"body": "Colleague's"})
    html = client.post(editor(draft), mine).content.decode()
    assert "Somebody saved a newer text meanwhile" in html and 'name="seen_version" value="2"' in html
    assert draft.versions.count() == 2
    client.post(editor(draft), {**mine, "seen_version": 2})
    assert draft.versions.count() == 3


@pytest.mark.parametrize("way", ["button", "script"])
def test_a_preview_shows_a_chosen_member_and_saves_nothing(client: Any, draft: Campaign, way: str) -> None:
    member = make_member(draft.site, phone="+17705550142", first_name="Grace")
    make_action(member, points_delta=7)
    body = "Well done “{{ first_name }}”: {{ points_delta }}"
    data = form(draft, body=body, preview_for="(770) 555-0142", _preview="")
    url = editor(draft) if way == "button" else reverse("admin:messaging_campaign_preview", args=[draft.pk])
    html = client.post(url, data).content.decode()
    assert "Well done “Grace”: 7" in html and "Harbor: " in html
    assert "left double quotation mark" in html
    assert "0142" in html and "770-555" not in html
    assert draft.versions.count() == 1
    assert not Message.objects.exists()


def test_the_previews_script_only_posts(client: Any, draft: Campaign) -> None:
    assert client.get(reverse("admin:messaging_campaign_preview", args=[draft.pk])).status_code == 405


def test_from_draft_by_review_to_live_and_into_a_pause(client: Any, draft: Campaign) -> None:
    go_live = reverse("admin:messaging_campaign_go_live", args=[draft.pk])
    client.post(go_live, {"canary_size": 50})
    draft.refresh_from_db()
    assert draft.state == State.DRAFT
    act(client, draft, "submit")
    assert 'value="50"' in client.get(go_live).content.decode()
    draft.refresh_from_db()
    assert draft.state == State.REVIEW
    client.post(go_live, {"canary_size": 25})
    draft.refresh_from_db()
    assert (draft.state, draft.canary_size) == (State.LIVE, 25)
    act(client, draft, "pause")
    assert draft.state == State.PAUSED
    act(client, draft, "resume")
    act(client, draft, "end-canary")
    assert draft.state == State.LIVE and draft.canary_passed_at is not None
    act(client, draft, "duplicate")
    assert Campaign.objects.get(name="Copy of Thanks").state == State.DRAFT


def test_what_stands_in_the_way_is_shown_before_going_live(client: Any, site: Site) -> None:
    site.state = Site.State.TEST
    site.save()
    html = client.get(editor(make_campaign(site, is_shadow=True))).content.decode()
    for words in ("A token is missing", "The site is in test mode", "Shadow mode is on"):
        assert words in html


def test_versions_show_their_differences_and_come_back(client: Any, draft: Campaign) -> None:
    campaigns.save_content(draft, {"body": "Many thanks!"})
    url = reverse("admin:messaging_campaign_versions", args=[draft.pk])
    html = client.get(url).content.decode()
    assert "<del>Thanks!</del>" in html and "<ins>Many thanks!</ins>" in html
    client.post(url, {"number": "1"})
    draft.refresh_from_db()
    assert draft.version is not None and (draft.version.number, draft.version.body) == (3, "Thanks!")


def test_the_shadow_report_counts_texts_parts_and_reasons(client: Any, site: Site) -> None:
    campaign = make_campaign(site, is_shadow=True)
    subscribed, stranger = make_member(site), make_member(site)
    make_consent(subscribed)
    make_message(subscribed, campaign, state="SKIPPED", reason="SHADOW", body="L" * 200)
    make_message(stranger, campaign, state="SKIPPED", reason="SHADOW")
    make_message(stranger, campaign, state="SKIPPED", reason="MISSING_VALUE", body="")
    answer = client.get(reverse("admin:messaging_campaign_shadow", args=[campaign.pk]))
    assert dict(answer.context["totals"]) == {"texts": 1, "parts": 2, "unsubscribed": 1, "others": 1}
    assert "Not sent: a value is missing." in answer.content.decode()


def test_support_reads_and_changes_nothing(site: Site, draft: Campaign) -> None:
    support = log_in(make_user(site, role=Role.SUPPORT))
    assert support.get(editor(draft)).status_code == 200
    make_user(site, first_name="Grace", last_name="Hopper")
    page = support.get(editor(draft)).content
    assert b"/do/" not in page and b"with the role Integration manager: Grace Hopper." in page
    names = ("preview", "go_live", "versions", "test")
    urls = [
        editor(draft),
        ADD + f"?site={site.site_id}",
        reverse("admin:messaging_campaign_action", args=[draft.pk, "submit"]),
    ]
    for url in [*urls, *(reverse(f"admin:messaging_campaign_{name}", args=[draft.pk]) for name in names)]:
        assert support.post(url, form(draft)).status_code == 403, url
    draft.refresh_from_db()
    assert (draft.state, draft.versions.count()) == (State.DRAFT, 1)


def test_the_test_page_texts_a_guest_after_showing_the_text(sandbox: SandboxProcess) -> None:
    world = World(sandbox, guest_phones=["+17705550177"])
    sandbox.add_subscribers(world.company, ["+17705550177"])
    campaign = make_campaign(world.site, body="Hello {{ first_name }}")
    member = make_member(world.site, first_name="Grace")
    client = log_in(make_user(world.site, role=Role.MANAGER))
    url = reverse("admin:messaging_campaign_test", args=[campaign.pk])
    html = client.get(url).content.decode()
    assert "770-555-0177" not in html and "0177" in html
    choice = {"phone": "0", "preview_for": member.phone}
    assert "Hello Grace" in client.post(url, {**choice, "_preview": ""}).content.decode()
    assert world.texts() == []
    client.post(url, {**choice, "_send": ""})
    assert world.texts() == [("+17705550177", "Hello Grace")]
    assert client.post(url, {"phone": "7", "_send": ""}).status_code == 200
    assert len(world.texts()) == 1


def test_the_list_counts_the_weeks_texts(client: Any, site: Site) -> None:
    campaign = make_campaign(site, name="Counted")
    now = timezone.now()
    # Actions of one file are recorded in the same moment.
    member = make_member(site)
    actions = [make_action(member, recorded_at=now - timedelta(hours=1)) for _number in range(3)]
    for action in actions:
        make_message(member, campaign, action=action, state="ACCEPTED", sent_at=now)
    make_message(member, campaign)
    long_ago = now - timedelta(days=8)
    make_message(member, campaign, state="ACCEPTED", created_at=long_ago, sent_at=long_ago)
    answer = client.get(reverse("admin:messaging_campaign_changelist"))
    (row,) = answer.context["cl"].result_list
    assert (row.week, row.latest) == (3, now)


def test_the_picture_is_looked_at_on_request_and_nothing_is_saved(
    site: Site, draft: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attentive_integration.pictures.look_at", lambda address: Picture("png", 412_345))
    manager = log_in(make_user(site))
    data = {**form(draft), "media_url": "https://example.com/spring.png", "_picture": "1"}
    assert b"It is there: a png of 412 KB." in manager.post(editor(draft), data).content
    draft.refresh_from_db()
    assert draft.version is None or draft.version.media_url == ""
    assert log_in(make_user(site, role=Role.SUPPORT)).post(editor(draft), data).status_code == 403
