"""The message log finds a text, says why, and lets those who may decide about one or many, each after a question."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from loyalty.models import ExportJob, Member, Site, SiteMembership
from messaging.admin.messages import MOST_AT_ONCE
from messaging.models import Message, SendAttempt
from tests.factories import make_campaign, make_member, make_message, make_site, make_user

from .test_pages import log_in

Role = SiteMembership.Role
State = Message.State
pytestmark = pytest.mark.django_db
LOG = reverse("admin:messaging_message_changelist")


@pytest.fixture
def site() -> Site:
    return make_site(client_name="Harbor", sms_prefix="Harbor:")


@pytest.fixture
def member(site: Site) -> Member:
    return make_member(site, phone="+17705550142")


def page(client: Any, query: str = "", url: str = LOG) -> str:
    answer = client.get(url + query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def support(site: Site) -> Any:
    return log_in(make_user(site, role=Role.SUPPORT))


def test_the_log_shows_the_last_day_unless_another_period_or_a_search_is_asked_for(site: Site, member: Member) -> None:
    make_message(member, body="Fresh text")
    make_message(member, body="Old text", created_at=timezone.now() - timedelta(days=3))
    client = support(site)
    assert "Fresh text" in page(client) and "Old text" not in page(client)
    assert "Old text" in page(client, "?period=7d")
    assert "Old text" in page(client, "?q=(770) 555-0142")
    day = (timezone.now() - timedelta(days=3)).date().isoformat()
    assert "Old text" in page(client, f"?period={day}") and "Fresh text" not in page(client, f"?period={day}")
    assert page(client, "?period=nonsense")


@pytest.mark.parametrize("words", ["770-555-0142", "+1 770 555 0142", "7705550142"])
def test_a_phone_is_found_in_any_spelling(site: Site, member: Member, words: str) -> None:
    make_message(member, body="The wanted one")
    make_message(make_member(site), body="Another one")
    html = page(support(site), f"?q={words.replace('+', '%2B')}")
    assert "The wanted one" in html and "Another one" not in html


def test_a_message_is_found_by_its_number_and_by_its_action(site: Site, member: Member) -> None:
    message = make_message(member, body="The wanted one")
    make_message(make_member(site), body="Another one")
    client = support(site)
    for words in (f"%23{message.pk}", str(message.pk), message.action.activity_id):
        html = page(client, f"?q={words}")
        assert "The wanted one" in html and "Another one" not in html
    assert "Nothing found" in page(client, "?q=%2399999999999999999999")


def test_tabs_count_the_states_that_the_other_filters_leave(site: Site, member: Member) -> None:
    campaign = make_campaign(site)
    for state in (State.ACCEPTED, State.ACCEPTED, State.UNKNOWN):
        make_message(member, campaign, state=state)
    make_message(member, state=State.ACCEPTED)
    make_message(make_member(make_site()), state=State.ACCEPTED)
    html = page(support(site), f"?campaign={campaign.pk}&state=UNKNOWN")
    assert "Accepted 2" in html and "Not known 1" in html and "Refused" not in html.split('id="changelist"')[0]


def test_an_empty_period_offers_a_longer_one(site: Site, member: Member) -> None:
    make_message(member, created_at=timezone.now() - timedelta(days=3))
    html = page(support(site))
    assert "Show 30 days" in html and "period=30d" in html


def test_phones_are_masked_for_those_without_the_right(site: Site, member: Member) -> None:
    message = make_message(member, state=State.REFUSED, reason="REFUSED")
    SendAttempt.objects.create(message=message, number=1, fence=1, outcome="REFUSED", answer="no +17705550142 here")
    user = make_user(site, role=Role.SUPPORT)
    url = reverse("admin:messaging_message_change", args=[message.pk])
    for html in (page(log_in(user)), page(log_in(user), url=url), page(log_in(user), "?tab=timeline", url)):
        assert "555-0142" not in html and "7705550142" not in html
    user.user_permissions.add(Permission.objects.get(codename="view_pii"))
    assert "+1 770-555-0142" in page(log_in(user)) and "+1 770-555-0142" in page(log_in(user), url=url)


def test_the_page_says_cause_and_remedy_and_offers_what_the_state_allows(site: Site, member: Member) -> None:
    client = support(site)

    def html_of(state: str, reason: str = "") -> str:
        message = make_message(member, state=state, reason=reason)
        return page(client, url=reverse("admin:messaging_message_change", args=[message.pk]))

    unknown = html_of(State.UNKNOWN, "NO_ANSWER")
    assert "Not known whether this text went out" in unknown
    assert "/do/treat-as-sent/" in unknown and "/do/send-again/" in unknown and "/do/cancel/" not in unknown
    assert "/do/resend/" in html_of(State.REFUSED, "REFUSED")
    assert "/do/try-now/" not in html_of(State.QUEUED, "FREQUENCY_CAP") + html_of(State.QUEUED, "QUIET_HOURS")
    assert "/do/cancel/" in html_of(State.HELD, "STOPPED")
    assert "/do/" not in html_of(State.ACCEPTED)


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("treat-as-sent", State.UNKNOWN, State.ACCEPTED),
        ("send-again", State.UNKNOWN, State.QUEUED),
        ("resend", State.REFUSED, State.QUEUED),
        ("cancel", State.HELD, State.CANCELLED),
    ],
)
def test_a_decision_asks_first_and_is_a_post(site: Site, member: Member, action: str, before: str, after: str) -> None:
    message = make_message(member, state=before)
    url = reverse("admin:messaging_message_action", args=[message.pk, action])
    client = support(site)
    client.get(url)
    message.refresh_from_db()
    assert message.state == before
    client.post(url)
    message.refresh_from_db()
    assert message.state == after


def test_sending_one_again_says_what_it_costs(site: Site, member: Member) -> None:
    message = make_message(member, state=State.UNKNOWN, body="L" * 160)
    asked = page(support(site), url=reverse("admin:messaging_message_action", args=[message.pk, "send-again"]))
    assert "may get it twice" in asked and "It costs 2 SMS parts." in asked


def test_a_text_that_waits_for_its_next_try_is_tried_at_once(site: Site, member: Member) -> None:
    later = timezone.now() + timedelta(minutes=10)
    message = make_message(member, state=State.QUEUED, reason="RETRYING", due_at=later)
    client = support(site)
    assert "/do/try-now/" in page(client, url=reverse("admin:messaging_message_change", args=[message.pk]))
    client.post(reverse("admin:messaging_message_action", args=[message.pk, "try-now"]))
    message.refresh_from_db()
    assert message.due_at <= timezone.now() and message.state == State.QUEUED


def bulk(client: Any, action: str, messages: list[Message], *, confirmed: bool, query: str = "") -> str:
    data = {"action": action, "_selected_action": [message.pk for message in messages]}
    answer = client.post(LOG + query, {**data, **({"confirmed": "yes"} if confirmed else {"index": 0})}, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_many_are_sent_again_after_count_and_cost_are_shown(site: Site, member: Member) -> None:
    unknown = make_message(member, state=State.UNKNOWN, body="Short")
    refused = make_message(member, state=State.REFUSED, body="L" * 160)
    accepted = make_message(member, state=State.ACCEPTED)
    client = support(site)
    html = bulk(client, "send_again_selected", [unknown, refused, accepted], confirmed=False)
    # Two texts: one part, and with the prefix two.
    assert "2 texts are sent again" in html and "3 SMS parts" in html and "may get it twice" in html
    assert set(Message.objects.values_list("state", flat=True)) == {State.UNKNOWN, State.REFUSED, State.ACCEPTED}
    assert "2 texts wait again" in bulk(client, "send_again_selected", [unknown, refused, accepted], confirmed=True)
    assert list(Message.objects.order_by("pk").values_list("state", flat=True)) == [
        State.QUEUED, State.QUEUED, State.ACCEPTED,
    ]  # fmt: skip


def test_many_are_treated_as_sent_or_cancelled(site: Site, member: Member) -> None:
    unknown, held = make_message(member, state=State.UNKNOWN), make_message(member, state=State.HELD)
    client = support(site)
    bulk(client, "treat_as_sent_selected", [unknown, held], confirmed=True)
    bulk(client, "cancel_selected", [unknown, held], confirmed=True)
    unknown.refresh_from_db()
    held.refresh_from_db()
    assert (unknown.state, held.state) == (State.ACCEPTED, State.CANCELLED)


def test_nothing_of_another_tenant_is_decided(site: Site, member: Member) -> None:
    mine = make_message(member, state=State.UNKNOWN)
    other = make_message(make_member(make_site()), state=State.UNKNOWN)
    bulk(support(site), "treat_as_sent_selected", [mine, other], confirmed=True)
    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.state, other.state) == (State.ACCEPTED, State.UNKNOWN)


def test_too_many_are_refused_whole(site: Site, member: Member) -> None:
    campaign = make_campaign(site)
    for _number in range(MOST_AT_ONCE + 1):
        make_message(member, campaign, state=State.UNKNOWN)
    client = support(site)
    data = {"action": "treat_as_sent_selected", "select_across": "1", "index": "0", "confirmed": "yes"}
    html = client.post(LOG, {**data, "_selected_action": [Message.objects.first().pk]}, follow=True).content.decode()
    assert "Choose at most 500 messages" in html
    assert not Message.objects.filter(state=State.ACCEPTED).exists()


def test_the_log_is_exported_as_it_is_narrowed_by_those_who_may(site: Site, member: Member) -> None:
    url = reverse("admin:messaging_message_export")
    assert support(site).get(url).status_code == 403
    manager = log_in(make_user(site, role=Role.MANAGER))
    assert "2026-11-01" in page(manager, f"?site={site.site_id}&period=2026-11-01", url)
    manager.get(url, {"site": site.site_id})
    assert not ExportJob.objects.exists()
    manager.post(url, {"site_id": site.site_id, "state": "UNKNOWN", "from": "2026-11-01"})
    job = ExportJob.objects.get()
    assert (job.site, job.kind, job.options) == (
        site, ExportJob.Kind.MESSAGES, {"filters": {"state": "UNKNOWN", "from": "2026-11-01"}},
    )  # fmt: skip
    manager.post(url, {"site_id": make_site().site_id})
    assert ExportJob.objects.count() == 1


def test_the_links_of_home_and_search_lead_to_what_they_say(site: Site, member: Member) -> None:
    make_message(member, body="The wanted one", state=State.UNKNOWN)
    make_message(make_member(site), body="Another one", state=State.ACCEPTED)
    client = support(site)
    for query in (
        f"?member__id__exact={member.pk}&period=all",
        "?state__in=UNKNOWN,REFUSED",
        "?state=UNKNOWN&period=all",
    ):
        html = page(client, query)
        assert "The wanted one" in html and "Another one" not in html
