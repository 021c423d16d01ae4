"""How fast, how evenly and how fairly texts leave: Celery workers, PostgreSQL, and the sandbox over HTTP."""

import os
import statistics
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone

from loyalty.models import LoyaltyAction, Member, Site
from messaging.models import Message, SendAttempt
from tests.bench import bare_celery
from tests.bench.measuring import Row, celery, end, ledger, sandbox, start, wait_until
from tests.factories import make_campaign
from tests.soak.people import connected_site, phone

REPEATS = 3
_SLICE = 2_000
_PATH = "/1/messages"
_BARE_WORKER = (
    "-m", "celery", "-A", "tests.bench.bare_celery", "worker", "-Q", "bare", "-P", "threads", "-c", "20",
    "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip


def throughput() -> list[Row]:
    """Send from 20 sites without a limit, and by one bare Celery task a message, in turns; medians of messages/s."""
    companies = [f"fast{number}" for number in range(20)]
    _no_limits(latency=0.02)
    sites = [connected_site(sandbox(), company, members=300) for company in companies]
    ours, bare = [], []
    for _ in range(REPEATS):
        _queue_messages(sites, each=300)
        with celery(workers=2):
            wait_until(_nothing_is_queued, seconds=120)
        ours.append(_rate(Message.objects.filter(site__in=sites)))
        bare.append(_bare_rate(companies[0], messages=4_000, workers=2))
        Message.objects.all().delete()
        LoyaltyAction.objects.all().delete()
    rate, bare_rate = statistics.median(ours), statistics.median(bare)
    note = f"{rate:,.0f} ÷ {bare_rate:,.0f} messages/s"
    return [Row("20 sites, 20 ms latency: messages/s ÷ a bare Celery task a message", rate / bare_rate, at_least=1.2,
                note=note)]  # fmt: skip


def pace(seconds: str = "60") -> list[Row]:
    """Send with one token from three workers for so many seconds: the share of 150/s that is used, and refusals."""
    length = float(seconds)
    site = connected_site(sandbox(), "paced", members=2_000)
    _queue_messages([site], each=2_000, times=int(150 * (length + 15)) // 2_000 + 1)
    attempts = SendAttempt.objects.filter(message__site=site)
    with celery(workers=3):
        wait_until(lambda: attempts.count() > 300, seconds=60)
        since = timezone.now()
        wait_until(lambda: timezone.now() > since + timedelta(seconds=length), seconds=length + 5)
        until = timezone.now()
    sent = _accepted_between(since, until)
    refused = attempts.filter(http_status=429).count()
    share = sent / (150 * (until - since).total_seconds())
    return [
        Row("one token, three workers: share of 150 texts/s", share, at_least=0.95, note=f"over {length:g} s"),
        Row("one token, three workers: refusals in 10,000", refused * 10_000 / attempts.count(), at_most=1),
    ]


def slow_site() -> list[Row]:
    """Send from four sites, alone and beside one whose answers take ten seconds, in turns: what the four keep."""
    companies = [f"quick{number}" for number in range(4)]
    _no_limits(latency=0.02)
    quick = [connected_site(sandbox(), company, members=1_000) for company in companies]
    slow = connected_site(sandbox(), "slow", members=1_000)
    sandbox().add_fault(_PATH, "delay", times=None, company="slow", seconds=10.0)
    alone, beside = [], []
    for _ in range(REPEATS):
        for others, rates in (([], alone), ([slow], beside)):
            _queue_messages([*others, *quick], each=1_000)
            mine = Message.objects.filter(site__in=quick)
            with celery(workers=2):
                wait_until(lambda: not mine.filter(state=Message.State.QUEUED).exists(), seconds=120)  # noqa: B023
            rates.append(_rate(mine))
            Message.objects.all().delete()
            LoyaltyAction.objects.all().delete()
    share = statistics.median(beside) / statistics.median(alone)
    note = f"{statistics.median(beside):,.0f} of {statistics.median(alone):,.0f} messages/s"
    return [Row("one site answers in 10 s: what the others keep of their throughput", share, at_least=0.9, note=note)]


def _bare_rate(company: str, *, messages: int, workers: int) -> float:
    """Fill a queue, start so many bare workers of twenty threads, and return the accepted messages a second."""
    before, marker = len(ledger("MESSAGE")), time.time()
    for number in range(messages):
        to, body = phone(number % 300), f"{marker} {number}"
        bare_celery.send.delay(f"{os.environ['ATTENTIVE_API_URL']}{_PATH}", f"legacy-{company}", to, body)
    running = [start(*_BARE_WORKER, "-n", f"bare{number}@localhost") for number in range(workers)]
    try:
        wait_until(lambda: len(ledger("MESSAGE")) - before >= messages, seconds=120, every=0.5)
    finally:
        end(running)
    times = [int(str(record["at"])) for record in ledger("MESSAGE")[before:]]
    return messages * 1_000 / (max(times) - min(times))


def _no_limits(*, latency: float) -> None:
    sandbox().set(limits={"DEFAULT": None}, duplicate_seconds=0)
    sandbox().add_fault(_PATH, "delay", times=None, seconds=latency)


def _queue_messages(sites: Iterable[Site], *, each: int, times: int = 1) -> None:
    """Queue texts for the first members of each site, as the trigger would have made them."""
    now = timezone.now()
    for site in sites:
        campaign = site.campaigns.first() or make_campaign(site)
        members = list(Member.objects.filter(site=site).order_by("pk")[:each])
        for turn in range(times):
            actions = LoyaltyAction.objects.bulk_create(
                [
                    LoyaltyAction(
                        site=site, member=member, action_type=campaign.action_type, digest="0" * 64, occurred_at=now,
                        activity_id=f"{turn}-{member.pk}", processed_at=now,
                    )
                    for member in members
                ],
                batch_size=_SLICE,
            )  # fmt: skip
            Message.objects.bulk_create(
                [
                    Message(
                        site=site, member=member, campaign=campaign, version=campaign.version, action=action,
                        to=member.phone, body=f"Thanks, this is number {turn}.", due_at=now,
                        expires_at=now + timedelta(hours=5),
                    )
                    for member, action in zip(members, actions, strict=True)
                ],
                batch_size=_SLICE,
            )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _nothing_is_queued() -> bool:
    return not Message.objects.filter(state=Message.State.QUEUED).exists()


def _rate(messages: object) -> float:
    """Return messages a second between the first call's begin and the last one's end."""
    found = SendAttempt.objects.filter(message__in=messages).aggregate(a=Min("started_at"), b=Max("ended_at"))
    return SendAttempt.objects.filter(message__in=messages).count() / (found["b"] - found["a"]).total_seconds()


def _accepted_between(since: datetime, until: datetime) -> int:
    low, high = since.timestamp() * 1000, until.timestamp() * 1000
    return sum(low <= record["at"] < high for record in ledger("MESSAGE"))
