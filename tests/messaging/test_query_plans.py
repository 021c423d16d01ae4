"""Queries that must use an index of their own, whatever the size of the tables and the state of the statistics."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from loyalty import subscriptions
from loyalty.models import AuditEntry, Consent, LoyaltyAction, Site
from messaging import queue, triggers
from messaging.models import Message, WebhookEvent
from tests.factories import make_site

pytestmark = pytest.mark.django_db


def is_found_by(rows: QuerySet[Any], *indexes: str) -> bool:
    """Tell whether the database finds the rows by one of these indexes.

    Of several indexes PostgreSQL takes any for an empty table; there it must only not need all of the table.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
        return f"Seq Scan on {rows.model._meta.db_table}" not in rows.explain()
    return any(index in rows.explain() for index in indexes)


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
    assert is_found_by(rows(), index)


def test_an_index_finds_who_is_to_be_asked() -> None:
    site = make_site()
    rows = subscriptions._to_ask(site).order_by("pk")[:50]
    assert is_found_by(rows, "consent_text_to_ask", "consent_site_state")


def test_an_index_finds_who_is_asked_again_among_all_who_wait() -> None:
    site = make_site()
    Consent.objects.bulk_create(Consent(site=site, address=f"+1770555{n:04}", state="TO_ASK") for n in range(2_000))
    Consent.objects.filter(address__endswith="01").update(due_at=now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    assert "consent_tried_again" in subscriptions._tried_again(site).explain()


def test_matching_reads_only_what_is_new() -> None:
    """The lock does not keep the database from the index."""
    assert triggers.match_actions() == 0
    rows = LoyaltyAction.objects.filter(processed_at=None).order_by("id").select_related("member", "site")
    assert is_found_by(rows[:500], "action_unprocessed")
