"""What the dashboard's Home, System and site pages say about messages: outcomes, reasons, queues. Few queries each."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, FloatField, IntegerField, OuterRef, QuerySet, Subquery, Value, When
from django.utils import timezone

from attentive_integration.markup import Inexact
from loyalty.capped_counts import COUNT_CAP, CountOf, Sample, at_least, ends_of, values_of
from loyalty.models import Breaker, Consent, ImportJob, LoyaltyAction, Site
from messaging.models import Message, WebhookEvent
from messaging.reasons import Code

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
# So many messages of a state are counted one by one: of so few a sample tells little.
_FEW = 2_000
# Held texts of one site are counted no further than this: more of them ask for the same.
_MANY_HELD = 1_000
_UNDER_WAY = (ImportJob.State.PENDING, ImportJob.State.RUNNING)


@dataclass
class Outcomes:
    """Messages of the last seven days by what became of them; `days` has (first moment, counts) per calendar day."""

    last_day: Counter[str] = field(default_factory=Counter)
    last_week: Counter[str] = field(default_factory=Counter)
    days: list[tuple[datetime, Counter[str]]] = field(default_factory=list)
    # (state, reason) → count, of the week, for what did not go out.
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)


def outcomes(sites: QuerySet[Site], now: datetime | None = None) -> Outcomes:
    """Count the sites' messages created in the last seven days; days begin at midnight of the current zone.

    Of a state with many messages a sample is counted, so that the largest client's page is as fast as any.
    """
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
    for (number, state, reason), count in _counts_of(sites, edges[0], slice_of).items():
        edge, key = edges[number], _GROUP_OF[state]
        found.last_week[key] += count
        if edge >= day_ago:
            found.last_day[key] += count
        day = max(position for position, start in enumerate(starts) if start <= edge) if edge >= starts[0] else 0
        found.days[day][1][key] += count
        if reason and key in ("held", "unknown", "refused", "skipped"):
            found.reasons[state, reason] += count
    return found


def _counts_of(sites: QuerySet[Site], since: datetime, slice_of: Case) -> dict[tuple[int, str, str], int]:
    """Return the counts by slice, state and reason, in two queries."""
    week = Message.objects.filter(site__in=sites.order_by(), created_at__gte=since)

    def grouped(rows: QuerySet[Message], weight: float) -> QuerySet[Any]:
        named = rows.order_by().annotate(slice=slice_of, weight=Value(weight, output_field=FloatField()))
        return named.values_list("weight", "slice", "state", "reason").annotate(count=Count("pk"))

    found = values_of(
        {state: CountOf(week.filter(state=state), _FEW) for state in State.values}
        | ends_of(Message.objects.filter(created_at__gte=since), sites, by="created_at")
    )
    many = [state for state in State.values if (found[state] or 0) > _FEW]
    rows = grouped(week.filter(state__in=[state for state in State.values if state not in many]), 1)
    if many:
        sample = Sample.between(found["low"], found["high"])
        rows = rows.union(grouped(week.filter(state__in=many, pk__in=sample.pks), sample.weight), all=True)
    return {
        (number, state, reason): count if weight == 1 else Inexact(count * weight)
        for weight, number, state, reason, count in rows
    }


@dataclass(frozen=True)
class Queue:
    """Work that waits: how much, and since when the oldest does (None when nothing waits)."""

    name: str
    count: int
    oldest: datetime | None


def queues(sites: QuerySet[Site], now: datetime | None = None) -> dict[str, Queue]:
    """Return what waits on these sites: actions, messages, held, unknown, to_ask, webhooks. In one query, or two.

    Only the number of members to ask is estimated when there are many; the others are “≥ 10,000” then.
    """
    now = now or timezone.now()
    due = Message.objects.filter(state=State.QUEUED, due_at__lte=now)
    actions = LoyaltyAction.objects.filter(site__in=sites, processed_at=None)
    webhooks = WebhookEvent.objects.filter(site__in=sites, state=WebhookEvent.State.RECEIVED)
    to_ask = Consent.objects.filter(channel=Consent.Channel.TEXT, state=Consent.State.TO_ASK)
    counts: dict[str, Any] = {
        "actions": actions,
        "messages": due.filter(site__in=sites),
        "held": Message.objects.filter(site__in=sites, state=State.HELD),
        "unknown": Message.objects.filter(site__in=sites, state=State.UNKNOWN),
        "to_ask": to_ask.filter(site__in=sites),
        "webhooks": webhooks,
    }
    # The oldest of each site is the first of an index.
    first_due = due.filter(site=OuterRef("pk")).order_by("due_at").values("due_at")[:1]
    first_dues = sites.annotate(due=Subquery(first_due)).exclude(due=None).order_by("due")
    oldest = {
        "actions_since": Subquery(actions.order_by("pk").values("recorded_at")[:1]),
        "messages_since": Subquery(first_dues.values("due")[:1]),
        "webhooks_since": Subquery(webhooks.order_by("pk").values("received_at")[:1]),
    }
    found = values_of({name: CountOf(rows) for name, rows in counts.items()} | oldest | ends_of(to_ask, sites))
    waiting = {name: Queue(name, at_least(found[name] or 0), found.get(f"{name}_since")) for name in counts}
    if waiting["to_ask"].count >= COUNT_CAP:
        sample = Sample.between(found["low"], found["high"])
        hits = counts["to_ask"].filter(pk__in=sample.pks).count()
        waiting["to_ask"] = Queue("to_ask", max(sample.estimate(hits), waiting["to_ask"].count), None)
    return waiting


def waiting_for_token(sites: QuerySet[Site]) -> dict[int, int]:
    """Return, for each of the sites that has any, how many texts are held because a token is missing; in one query."""
    held = Message.objects.filter(site=OuterRef("pk"), state=State.HELD, reason=Code.TOKEN_MISSING)
    counts = sites.order_by().annotate(held_texts=CountOf(held, _MANY_HELD)).filter(held_texts__gt=0)
    return {pk: at_least(count, _MANY_HELD) for pk, count in counts.values_list("pk", "held_texts")}


def badges(sites: QuerySet[Site]) -> dict[str, int]:
    """Return what the sidebar counts, in one query: sites whose tokens are held, running imports, unknown messages."""
    found = values_of(
        {
            "sites": CountOf(Breaker.objects.filter(site__in=sites, opened_at__isnull=False)),
            "imports": CountOf(ImportJob.objects.filter(site__in=sites, state__in=_UNDER_WAY)),
            "unknown": CountOf(Message.objects.filter(site__in=sites, state=State.UNKNOWN)),
        }
    )
    return {name: at_least(count or 0) for name, count in found.items()}
