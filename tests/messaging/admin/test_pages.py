"""Every page of messaging: opens for who may, is a 404 for other tenants, and asks few queries whatever the rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import SiteMembership
from messaging.models import Message, SendAttempt, WebhookEvent
from tests.factories import make_action, make_campaign, make_consent, make_member, make_message, make_site, make_user

Role = SiteMembership.Role
pytestmark = pytest.mark.django_db
MOST_QUERIES = 15


def log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def fill(site: Any, rows: int) -> dict[str, Any]:
    """Make so many rows of everything, and return the last of each."""
    made: dict[str, Any] = {"site": site}
    for number in range(rows):
        campaign = make_campaign(site, name=f"Thanks {number}")
        member = make_member(site)
        make_consent(member)
        message = make_message(member, campaign, state=Message.State.UNKNOWN, reason="NO_ANSWER", attempt_count=1)
        SendAttempt.objects.create(
            message=message, number=1, fence=1, outcome=SendAttempt.Outcome.UNKNOWN, cause="READ_TIMEOUT",
            duration_ms=15_000, answer=f"no answer for {member.phone}",
        )  # fmt: skip
        make_message(member, campaign, state=Message.State.SKIPPED, reason="SHADOW")
        event = WebhookEvent.objects.create(
            site=site, digest=f"{site.pk}-{number}", body='{"type": "sms.sent"}', type="sms.sent"
        )
        made |= {"campaign": campaign, "member": member, "message": message, "action": message.action, "event": event}
    return made


PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "messages": lambda made: reverse("admin:messaging_message_changelist"),
    "messages of a site": lambda made: reverse("admin:messaging_message_changelist") + f"?site={made['site'].site_id}",
    "messages, narrowed": lambda made: (
        reverse("admin:messaging_message_changelist")
        + f"?state=UNKNOWN&period=7d&reason=NO_ANSWER&campaign={made['campaign'].pk}"
    ),
    "message": lambda made: reverse("admin:messaging_message_change", args=[made["message"].pk]),
    "timeline": lambda made: reverse("admin:messaging_message_change", args=[made["message"].pk]) + "?tab=timeline",
    "message decision": lambda made: reverse("admin:messaging_message_action", args=[made["message"].pk, "send-again"]),
    "export": lambda made: reverse("admin:messaging_message_export"),
    "campaigns": lambda made: reverse("admin:messaging_campaign_changelist"),
    "new campaign": lambda made: reverse("admin:messaging_campaign_add") + f"?site={made['site'].site_id}",
    "named campaign": lambda made: (
        reverse("admin:messaging_campaign_add") + f"?site={made['site'].site_id}&start=welcome"
    ),
    "editor": lambda made: reverse("admin:messaging_campaign_change", args=[made["campaign"].pk]),
    "go live": lambda made: reverse("admin:messaging_campaign_go_live", args=[made["campaign"].pk]),
    "versions": lambda made: reverse("admin:messaging_campaign_versions", args=[made["campaign"].pk]),
    "shadow": lambda made: reverse("admin:messaging_campaign_shadow", args=[made["campaign"].pk]),
    "test text": lambda made: reverse("admin:messaging_campaign_test", args=[made["campaign"].pk]),
    "actions": lambda made: reverse("admin:loyalty_loyaltyaction_changelist"),
    "action": lambda made: reverse("admin:loyalty_loyaltyaction_change", args=[made["action"].pk]),
    "webhooks": lambda made: reverse("admin:messaging_webhookevent_changelist"),
    "webhook": lambda made: reverse("admin:messaging_webhookevent_change", args=[made["event"].pk]),
    "stops": lambda made: reverse("admin:loyalty_sendingstop_changelist"),
    "stop": lambda made: reverse("admin:loyalty_sendingstop_stop", args=[made["site"].site_id]),
    "resume": lambda made: reverse("admin:loyalty_sendingstop_resume", args=[made["site"].site_id]),
}
ROW_PAGES = [
    "message", "timeline", "message decision", "editor", "go live", "versions", "shadow", "test text", "action",
    "webhook", "stop", "resume", "messages of a site", "new campaign",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_few_queries_and_no_more_for_more_rows(page: str, django_assert_max_num_queries: Any) -> None:
    site = make_site(guest_phones=["+17705550199"])
    client = log_in(make_user(site, make_site(), role=Role.ADMIN))
    made = fill(site, 1)
    with django_assert_max_num_queries(MOST_QUERIES) as with_one:
        assert client.get(PAGES[page](made)).status_code == 200
    add_two(site)
    with django_assert_max_num_queries(MOST_QUERIES) as with_three:
        assert client.get(PAGES[page](made)).status_code == 200
    assert len(with_three) <= len(with_one) + 1


def add_two(site: Any) -> None:
    for number in (1, 2):
        campaign = make_campaign(site, name=f"More {number}")
        member = make_member(site)
        make_consent(member)
        message = make_message(member, campaign, state=Message.State.UNKNOWN, reason="NO_ANSWER")
        SendAttempt.objects.create(message=message, number=1, fence=1, outcome=SendAttempt.Outcome.UNKNOWN)
        WebhookEvent.objects.create(site=site, digest=f"more-{number}", body="{}", type="sms.sent")
        make_action(member, outcome="NO_CAMPAIGN", processed_at=timezone.now() - timedelta(hours=1))


@pytest.mark.parametrize("page", ROW_PAGES)
def test_a_page_of_another_tenant_does_not_exist(page: str) -> None:
    made = fill(make_site(), 1)
    stranger = log_in(make_user(make_site(), role=Role.ADMIN))
    assert stranger.get(PAGES[page](made)).status_code == 404
    assert stranger.post(PAGES[page](made)).status_code == 404


@pytest.mark.parametrize("page", ["messages", "campaigns", "actions", "webhooks", "stops", "export"])
def test_lists_show_the_own_tenant_alone(page: str) -> None:
    mine, other = make_site(client_name="Mine Inc"), make_site(client_name="Other Ltd")
    made = fill(mine, 1)
    fill(other, 1)
    html = log_in(make_user(mine, role=Role.ADMIN)).get(PAGES[page](made)).content.decode()
    assert "Mine Inc" in html
    assert "Other Ltd" not in html
