"""What the dashboard's Home, System and site pages say about messages: outcomes, reasons, queues. Few queries each."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, CharField, Count, DateTimeField, IntegerField, Min, QuerySet, Value, When
from django.utils import timezone

from loyalty.models import Breaker, Consent, ImportJob, LoyaltyAction, Site
from messaging.models import Message, WebhookEvent

State = Message.State

# The states as staff think of them, in the order in which charts stack them: (key, states).
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("accepted", (State.ACCEPTED,)),
    ("waiting", (State.QUEUED, State.CLAIMED, State.SENDING)),
    ("held", (State.HELD,)),
    ("unknown", (State.UNKNOWN,)),
    ("refused", (State.REFUSED,)),
    ("skipped", (State.SKIPPED, State.EXPIRED, State.CANCELLED)),
)
_GROUP_OF = {state: key for key, states in GROUPS for state in states}
DAYS = 7
_UNDER_WAY = (ImportJob.State.PENDING, ImportJob.State.RUNNING)


@dataclass
class Outcomes:
    """Messages of the last seven days by what became of them; `days` has (first moment, counts) per calendar day."""

    last_day: Counter[str] = field(default_factory=Counter)
    last_week: Counter[str] = field(default_factory=Counter)
    days: list[tuple[datetime, Counter[str]]] = field(default_factory=list)
    # (state, reason) → count, of the week, for what did not go out.
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)


def outcomes(messages: QuerySet[Message], now: datetime | None = None) -> Outcomes:
    """Count the messages created in the last seven days, in one query; days begin at midnight of the current zone."""
    now = now or timezone.now()
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [midnight - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    found = Outcomes(days=[(start, Counter()) for start in starts])
    # Calendar days, cut once more where the last 24 hours begin; plain comparisons, so that the database is quick.
    day_ago = now - timedelta(hours=24)
    edges = sorted({*starts, day_ago})
    slice_of = Case(
        *[When(created_at__gte=edge, then=Value(number)) for number, edge in reversed(list(enumerate(edges)))],
        default=Value(-1),
        output_field=IntegerField(),
    )
    rows = (
        messages.filter(created_at__gte=edges[0])
        .order_by()
        .annotate(slice=slice_of)
        .values_list("slice", "state", "reason")
        .annotate(count=Count("pk"))
    )
    for number, state, reason, count in rows:
        edge, key = edges[number], _GROUP_OF[state]
        found.last_week[key] += count
        if edge >= day_ago:
            found.last_day[key] += count
        day = max(position for position, start in enumerate(starts) if start <= edge) if edge >= starts[0] else 0
        found.days[day][1][key] += count
        if reason and key in ("held", "unknown", "refused", "skipped"):
            found.reasons[state, reason] += count
    return found


@dataclass(frozen=True)
class Queue:
    """Work that waits: how much, and since when the oldest does (None when nothing waits)."""

    name: str
    count: int
    oldest: datetime | None


def queues(sites: QuerySet[Site], now: datetime | None = None) -> dict[str, Queue]:
    """Return what waits on these sites, in one query: actions, messages, held, to_ask, webhooks."""
    now = now or timezone.now()
    to_ask = Consent.objects.filter(site__in=sites, channel=Consent.Channel.TEXT, state=Consent.State.TO_ASK)
    parts: list[QuerySet[Any]] = [
        _waiting("actions", LoyaltyAction.objects.filter(site__in=sites, processed_at=None), "recorded_at"),
        _waiting("messages", Message.objects.filter(site__in=sites, state=State.QUEUED, due_at__lte=now), "due_at"),
        _waiting("held", Message.objects.filter(site__in=sites, state=State.HELD), "created_at"),
        _waiting("unknown", Message.objects.filter(site__in=sites, state=State.UNKNOWN), "created_at"),
        _waiting("to_ask", to_ask, "updated_at"),
        _waiting(
            "webhooks", WebhookEvent.objects.filter(site__in=sites, state=WebhookEvent.State.RECEIVED), "received_at"
        ),
    ]
    found = {name: Queue(name, count, oldest) for name, count, oldest in parts[0].union(*parts[1:], all=True)}
    return {
        name: found.get(name, Queue(name, 0, None))
        for name in ("actions", "messages", "held", "unknown", "to_ask", "webhooks")
    }


def _waiting(name: str, rows: QuerySet[Any], since: str) -> QuerySet[Any]:
    return (
        rows.order_by()
        .annotate(name=Value(name, output_field=CharField()))
        .values("name")
        .annotate(count=Count("pk"), oldest=Min(since, output_field=DateTimeField()))
        .values_list("name", "count", "oldest")
    )


def badges(sites: QuerySet[Site]) -> dict[str, int]:
    """Return what the sidebar counts, in one query: sites whose tokens are held, running imports, unknown messages."""
    parts = [
        _counted("sites", Breaker.objects.filter(site__in=sites, opened_at__isnull=False)),
        _counted("imports", ImportJob.objects.filter(site__in=sites, state__in=_UNDER_WAY)),
        _counted("unknown", Message.objects.filter(site__in=sites, state=State.UNKNOWN)),
    ]
    return dict(parts[0].union(*parts[1:], all=True))


def _counted(name: str, rows: QuerySet[Any]) -> QuerySet[Any]:
    named = rows.order_by().annotate(name=Value(name, output_field=CharField())).values("name")
    return named.annotate(count=Count("pk")).values_list("name", "count")
