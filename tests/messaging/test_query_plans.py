"""Queries that must use an index of their own, whatever the size of the tables and the state of the statistics."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from loyalty import subscriptions
from loyalty.models import AuditEntry, LoyaltyAction, Site
from messaging import queue, triggers
from messaging.models import Message, WebhookEvent
from tests.factories import make_site

pytestmark = pytest.mark.django_db


def plan_of(rows: QuerySet[Any]) -> str:
    """Return how the database would find the rows, if it could not read a small table from end to end."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
    return rows.explain()


def now() -> Any:
    return timezone.now()


def messages(**wanted: Any) -> QuerySet[Message]:
    return Message.objects.filter(site__in=[1, 2], **wanted)


QUERIES: dict[str, tuple[Any, str]] = {
    "new actions": (lambda: LoyaltyAction.objects.filter(processed_at=None).order_by("id")[:500], "action_unprocessed"),
    "due": (lambda: queue.due().filter(site=1).order_by("due_at")[:50], "message_due"),
    "sites with something due": (
        lambda: Site.objects.filter(Exists(queue.due().filter(site=OuterRef("pk")))), "message_due",
    ),
    "lost": (lambda: Message.objects.filter(lease_until__lt=now(), state="CLAIMED"), "message_lease"),
    "queued for too long": (
        lambda: Message.objects.filter(state="QUEUED", expires_at__lte=now()),
        "message_queued_expiring",
    ),
    "held for too long": (
        lambda: Message.objects.filter(state="HELD", expires_at__lte=now()),
        "message_held_expiring",
    ),
    "tried again": (
        lambda: Message.objects.filter(state="QUEUED", attempt_count__gt=0).order_by("due_at")[:1], "message_retried",
    ),
    "held": (lambda: messages(state="HELD", reason="SITE_PAUSED"), "message_"),
    "recent texts of a phone": (
        lambda: Message.objects.filter(site=1, to="+17705550101", sent_at__gte=now() - timedelta(hours=24)),
        "message_to",
    ),
    "webhooks to do": (lambda: WebhookEvent.objects.filter(state="RECEIVED", pk__gt=5).order_by("pk"), "webhook_"),
    "a reason": (lambda: messages(reason="NO_ANSWER").exclude(reason=""), "message_site_reason"),
    "a campaign's state": (lambda: messages(campaign=1, state="REFUSED"), "message_site_campaign"),
    "failed webhooks": (lambda: WebhookEvent.objects.filter(site__in=[1], state="FAILED"), "webhook_site_state"),
    "an outcome": (
        lambda: LoyaltyAction.objects.filter(site=1, outcome="TOO_OLD").exclude(outcome=""), "action_site_outcome",
    ),
    "an event": (lambda: AuditEntry.objects.filter(event="token.set").order_by("-at", "-pk")[:50], "audit_event"),
    "a person's entries": (lambda: AuditEntry.objects.filter(actor="ada").order_by("-at")[:50], "audit_actor"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_an_index_finds_the_rows(name: str) -> None:
    rows, index = QUERIES[name]
    assert index in plan_of(rows())


def test_an_index_finds_who_is_to_be_asked() -> None:
    site = make_site()
    plan = plan_of(subscriptions._to_ask(site).order_by("pk")[:50])
    assert "consent_text_to_ask" in plan or "consent_site_state" in plan


def test_matching_reads_only_what_is_new() -> None:
    """The lock does not keep the database from the index."""
    assert triggers.match_actions() == 0
    rows = LoyaltyAction.objects.filter(processed_at=None).order_by("id").select_related("member", "site")
    assert "action_unprocessed" in plan_of(rows[:500])
