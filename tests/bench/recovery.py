"""What a killed worker and a flushed broker leave behind, and how soon that is over."""

import os
import time
from datetime import timedelta

import redis
from django.utils import timezone

from loyalty.models import LoyaltyAction, Member, Site
from messaging import tick
from messaging.models import Message
from tests.bench.measuring import Row, celery, end, sandbox, start, wait_until
from tests.factories import make_action_type, make_campaign
from tests.installation import WORKER
from tests.soak.people import connected_site

State = Message.State
_PATH = "/1/messages"


def after_a_kill() -> list[Row]:
    """Kill a worker in the middle of its calls: the seconds until nothing is in its hands any more."""
    site = connected_site(sandbox(), "killed", members=500)
    make_campaign(site)
    fault = sandbox().add_fault(_PATH, "delay", times=None, seconds=10.0)
    _post_actions(site, 500)
    with celery(workers=1) as (worker,):
        held = Message.objects.filter(state__in=[State.CLAIMED, State.SENDING])
        wait_until(lambda: held.count() >= 10, seconds=60)
        worker.kill()
        worker.wait()
        killed_at = timezone.now()
        lost = set(held.values_list("pk", flat=True))
        leases_end = max(held.values_list("lease_until", flat=True))
        sandbox().remove_fault(fault)
        other = start(*WORKER, "-n", "another@localhost")
        try:
            taken = wait_until(lambda: not held.filter(pk__in=lost, updated_at__lt=killed_at).exists(), seconds=90)
            swept = (timezone.now() - leases_end).total_seconds()
        finally:
            end([other])
    return [
        Row(f"a worker is killed with {len(lost)} messages: s until they are owned again", taken, at_most=30),
        Row("of these, s from the end of the last lease until it was swept", swept, at_most=10),
    ]


def after_a_flush() -> list[Row]:
    """Flush the broker while 10,000 actions wait: the rows that are left when all is quiet again."""
    sandbox().set(limits={"DEFAULT": None}, duplicate_seconds=0)
    site = connected_site(sandbox(), "flushed", members=2_500)
    make_campaign(site)
    started = time.monotonic()
    with celery(workers=2):
        for _ in range(4):
            _post_actions(site, 2_500)
            redis.Redis.from_url(os.environ["REDIS_URL"]).flushall()
        wait_until(lambda: tick.counts()["left"] == 0, seconds=300, every=1.0)
    assert Message.objects.filter(state=State.ACCEPTED).count() == 10_000
    note = f"drained in {time.monotonic() - started:.0f} s"
    return [Row("10,000 actions and a flushed broker: rows left", tick.counts()["left"], at_most=0, note=note)]


def _post_actions(site: Site, count: int) -> None:
    now = timezone.now()
    action_type = make_action_type(site)
    first = LoyaltyAction.objects.count()
    members = Member.objects.filter(site=site).order_by("pk")[:count]
    LoyaltyAction.objects.bulk_create(
        LoyaltyAction(
            site=site, member=member, action_type=action_type, digest="0" * 64, occurred_at=now - timedelta(seconds=1),
            activity_id=f"{first}-{member.pk}",
        )
        for member in members
    )  # fmt: skip
