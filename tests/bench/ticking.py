"""A tick over 1,000 new actions, with years of old ones behind it and then with none; the texts go to the sandbox.

By itself a tenth of the goal, 1,000,000 old ones, in two minutes. All of it, for which nothing else should run:

python -m tests.bench tick --sizes 10000000     ten minutes, nearly all of them to fill the database; 25 GB of disk
"""

import statistics
import time
from typing import Any

from django.db import connection
from django.utils import timezone

from loyalty.actions import record_actions
from loyalty.models import AccessToken, Member, Site
from messaging import tick
from messaging.models import Message
from tests.bench import seeding
from tests.bench.measuring import Row, sandbox
from tests.bench.plans import large_reads
from tests.factories import make_token

MEMBERS, MESSAGES = 200_000, 1_000_000
ACTIONS = 1_000
REPEATS = 5


def over_old_messages(messages: str = str(MESSAGES)) -> list[Row]:
    """Measure ticks with so many old messages and actions, and with none; medians of the seconds."""
    sandbox().set(limits={"DEFAULT": None})
    sites = seeding.seed(MEMBERS, int(messages))
    for site in sites:
        make_token(site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{site.client_name.split()[0].lower()}")
    # The first tick sends what the seed has left behind.
    tick.run_tick()
    with_old = _ticks(sites[0], "old", after=0)
    reads = _reads_of_a_tick()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE messaging_message, messaging_sendattempt, loyalty_loyaltyaction")
    # Other people: the first text to somebody makes a row of consent, which the next one finds.
    with_none = _ticks(sites[0], "new", after=MEMBERS // 2)
    size = f"{ACTIONS:,} new actions, {int(messages):,} old ones ÷ none"
    return [
        Row(f"tick over {size}", with_old[0] / with_none[0], at_most=1.2, note=f"{with_old[0]:.2f} s"),
        Row(f"run_campaigns over {size}", with_old[1] / with_none[1], at_most=1.2, note=f"{with_old[1]:.2f} s"),
        Row("queries of a tick that scan a large table", len(reads), at_most=0, note="; ".join(reads)[:200]),
    ]


def _ticks(site: Site, name: str, *, after: int) -> tuple[float, float]:
    """Return the median seconds of a tick over new actions, and of the same with the counts of `run_campaigns`."""
    ticks, runs = [], []
    with connection.cursor() as cursor:
        # What was written before is on the disk before the time is taken.
        cursor.execute("CHECKPOINT")
    for turn in range(1 + REPEATS):
        _record(site, f"{name}-{turn}", after=after + turn * MEMBERS // 20)
        started = time.perf_counter()
        tick.run_tick()
        ticked = time.perf_counter()
        tick.counts()
        ticks.append(ticked - started)
        runs.append(time.perf_counter() - started)
        assert Message.objects.filter(action__activity_id__startswith=f"{name}-{turn}-").count() == ACTIONS
    # The first one after that writes every page that it touches as a whole.
    return statistics.median(ticks[1:]), statistics.median(runs[1:])


def _record(site: Site, name: str, *, after: int) -> None:
    """Record an action of each of so many members."""
    people = Member.objects.filter(site=site, pk__gt=after).order_by("pk")[:ACTIONS]
    now = timezone.now().isoformat()
    items = [
        {"activity_id": f"{name}-{n}", "action": "109", "phone": member.phone, "points": n, "occurred_at": now}
        for n, member in enumerate(people)
    ]
    assert all(result.status == "accepted" for result in record_actions(site, items))


def _reads_of_a_tick() -> list[str]:
    queries: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queries.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        tick.run_tick()
    return large_reads(queries)
