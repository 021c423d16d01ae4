"""A tick over 1,000 new actions, with years of old ones behind it and with none, on PostgreSQL.

Both databases have the same members; they take turns, and each measure is the median of five. The texts go to the
sandbox over HTTP, with no limit on its pace: `python -m tests.bench.ticking --messages 10000000` for the whole goal.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django
from django.db import connection
from django.utils import timezone

from tests.installation import Installation
from tests.postgres import PostgresCluster

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS, MESSAGES = 200_000, 2_000_000
ACTIONS = 1_000
REPEATS = 5


def rows(members: int = MEMBERS, messages: int = MESSAGES) -> list[dict[str, Any]]:
    """Return the measures of a tick with so many old messages and actions behind it."""
    given = os.environ.get("DATABASE_URL")
    try:
        with PostgresCluster() as cluster:
            os.environ["DATABASE_URL"] = cluster.url
            with (
                Installation(web=False, RATE_LIMIT_DEFAULT="100000") as new,
                Installation(web=False, RATE_LIMIT_DEFAULT="100000") as old,
            ):
                return _compared(new, old, members, messages)
    finally:
        if given is None:
            os.environ.pop("DATABASE_URL", None)
        else:
            os.environ["DATABASE_URL"] = given


def _compared(new: Installation, old: Installation, members: int, messages: int) -> list[dict[str, Any]]:
    for installation, behind in ((new, 0), (old, messages)):
        _child(installation, "seed", "--members", str(members), "--messages", str(behind))
    ticks: dict[Installation, list[float]] = {new: [], old: []}
    counts: dict[Installation, list[float]] = {new: [], old: []}
    scans: list[str] = []
    for turn in range(REPEATS + 1):
        for installation in (new, old):
            found = _child(installation, "tick", "--turn", str(turn), "--members", str(members))
            # The first tick also sends what the seed left behind.
            if turn:
                ticks[installation].append(found["tick"])
                counts[installation].append(found["tick"] + found["counts"])
                scans += found["scans"]

    def row(measure: str, value: float, at_most: float, note: str) -> dict[str, Any]:
        return {"measure": measure, "value": round(value, 2), "at_most": at_most, "note": note}

    ratios = []
    for name, measured in (("tick", ticks), ("run_campaigns --json", counts)):
        with_old, with_none = statistics.median(measured[old]), statistics.median(measured[new])
        what = f"{name}, {ACTIONS:,} new actions with {messages:,} old ÷ with none"
        ratios.append(row(what, with_old / with_none, 1.2, f"{with_old:.2f} s"))
    return [*ratios, row("queries of a tick that read much of a large table", len(scans), 0, "; ".join(scans)[:200])]


def _child(installation: Installation, *arguments: str) -> Any:
    command = [sys.executable, "-m", "tests.bench.ticking", *arguments]
    environment = {**installation.environment, "DJANGO_SETTINGS_MODULE": "attentive_integration.settings"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- In a child process -----------------------------------------------------------------------------------------------


def seed(members: int, messages: int) -> None:
    """Fill the database, and give both sites the tokens that the sandbox knows."""
    from loyalty.models import AccessToken  # noqa: PLC0415
    from tests.bench import seeding  # noqa: PLC0415
    from tests.factories import make_token  # noqa: PLC0415

    for site in seeding.seed(members, messages):
        make_token(site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{site.client_name.split()[0].lower()}")


def tick(turn: int, members: int) -> dict[str, Any]:
    """Record the turn's actions, run a tick over them, count, and look for queries that read much."""
    from loyalty.actions import record_actions  # noqa: PLC0415
    from loyalty.models import Member, Site  # noqa: PLC0415
    from messaging import tick as ticks  # noqa: PLC0415
    from messaging.models import Message  # noqa: PLC0415
    from tests.bench.pages import large_reads  # noqa: PLC0415

    site = Site.objects.get(site_id="1000001")
    people = Member.objects.filter(site=site, pk__gt=turn * members // 20).order_by("pk")[:ACTIONS]
    now = timezone.now().isoformat()
    items = [
        {"activity_id": f"new-{turn}-{n}", "action": "109", "phone": member.phone, "points": n, "occurred_at": now}
        for n, member in enumerate(people)
    ]
    results = record_actions(site, items)
    assert all(result.status == "accepted" for result in results), results[:3]
    started = time.perf_counter()
    ticks.run_tick()
    ticked = time.perf_counter()
    ticks.counts()
    counted = time.perf_counter()
    assert Message.objects.filter(action__activity_id__startswith=f"new-{turn}-").count() == ACTIONS
    queries: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queries.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        ticks.run_tick()
        ticks.counts()
    return {"tick": ticked - started, "counts": counted - ticked, "scans": large_reads(queries)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="rows", choices=["rows", "seed", "tick"])
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--turn", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task == "rows":
        for row in rows(options.members, options.messages):
            print(f"{row['measure']:<62} {row['value']:>8} (at most {row['at_most']})  {row['note']}")
        return
    django.setup()
    if options.task == "seed":
        seed(options.members, options.messages)
        print("{}")
    else:
        print(json.dumps(tick(options.turn, options.members)))


if __name__ == "__main__":
    main()
