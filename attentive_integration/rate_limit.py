"""The vendors' limits, kept over all processes and hosts: calls in any sliding second per token and endpoint class.

One row per token and class holds the next free slot, on the database's clock. A process reserves a short block of
evenly spaced slots in one transaction and makes a call at each; it works the same with and without Redis. Slots are a
little wider apart than the limit asks, so that calls which start a few milliseconds late still keep the limit. A slot
that would be later than that is dropped, and another one is taken.

Limits: https://docs.attentivemobile.com/pages/api-rate-limits/
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.crash import crash_point
from attentive_integration.http import ErrorKind, VendorError
from attentive_integration.models import RateLimit

# The share of the limit that is used; the rest is room for calls that start late.
_SHARE = 0.97
# How far ahead slots are handed out, and how much of it in one block (seconds).
HORIZON = 0.5
_BLOCK = 0.2
# How late a call may start while other slots lie close by (seconds).
_TOLERANCE = 0.025
# How much later one may start after a pause in which nothing was called (seconds).
_IDLE = 1.0
# How long after its reservation a call may start at the latest: a process that was frozen begins none (seconds).
LATEST_START = 2.0
# How long a pause that the vendor asked for is waited for (seconds); of a longer one the caller is told.
PATIENCE = 10.0
# From here on pacing costs more than it saves.
_UNLIMITED = 10_000

_Item = TypeVar("_Item")


class LongPause(VendorError):
    """A call was not made, because the vendor asked for a pause of more than PATIENCE; `retry_after` says how long."""

    def __init__(self, seconds: float) -> None:
        words = _(
            "The vendor asked for a pause, because there were too many calls. What runs by itself goes on in about "
            "%(minutes)d min; try anything else again then. Nothing is lost."
        ) % {"minutes": max(1, round(seconds / 60))}
        super().__init__(words, ErrorKind.RETRY, status=429, retry_after=seconds, cause="HTTP_429")


@dataclass(frozen=True)
class Reservation:
    """Slots as times of this process's monotonic clock, and how late a call may start at one of them."""

    slots: list[float]
    tolerance: float

    def is_late(self, slot: float) -> bool:
        return time.monotonic() > slot + self.tolerance


def reserve(key: str, limit: int, count: int, *, lead: float = 0.0) -> Reservation | None:
    """Reserve up to `count` slots within the next half second; None when the next free one lies further ahead.

    `limit` is in calls a second; `lead` is how long the caller needs before the first call (seconds).
    """
    if limit >= _UNLIMITED:
        return Reservation([time.monotonic()] * count, LATEST_START)
    spacing = 1 / (limit * _SHARE)
    with transaction.atomic():
        row, now = _locked(key)
        read_at = time.monotonic()
        free = max(row.next_slot_at, row.blocked_until or row.next_slot_at)
        first = max(free, now + timedelta(seconds=lead))
        ahead = (first - now).total_seconds()
        if ahead > HORIZON:
            return None
        taken = max(1, min(count, int((HORIZON - ahead) / spacing)))
        row.next_slot_at = first + timedelta(seconds=taken * spacing)
        if row.limit != limit:
            row.limit, row.limit_since = limit, now
        row.save(update_fields=["next_slot_at", "limit", "limit_since"])
        crash_point("before_slots_commit")
    crash_point("after_slots_commit")
    # After an idle second a block that fits into the share which is left free may start late: it crowds nobody.
    idle = min(_IDLE, max(0.0, (now - free).total_seconds())) if taken <= limit * (1 - _SHARE) else 0.0
    return Reservation([read_at + ahead + number * spacing for number in range(taken)], _TOLERANCE + idle)


def available(key: str, limit: int) -> int:
    """Return about how many slots could be reserved now, without reserving any."""
    row = RateLimit.objects.annotate(database_now=Now()).filter(key=key).first() if limit < _UNLIMITED else None
    if row is None:
        return limit
    ahead = max(row.next_slot_at, row.blocked_until or row.next_slot_at) - row.database_now
    return int((HORIZON - max(0.0, ahead.total_seconds())) * limit * _SHARE)


def in_force_since(endpoint: str, limit: int) -> datetime | None:
    """Return since when calls of an endpoint class keep to this limit, whatever the token; None = always.

    Where they still kept to another one when they were last made, that is now.
    """
    rows = RateLimit.objects.filter(key__endswith=f":{endpoint}", limit__isnull=False)
    changes = dict(rows.values_list("limit").annotate(Max("limit_since")))
    return changes.get(limit, timezone.now()) if changes else None


def _locked(key: str) -> tuple[RateLimit, datetime]:
    """Return the row, locked until the transaction ends, and the database's time.

    The time is read after the lock: a statement that waits for a lock still tells when it began to wait.
    """
    rows = RateLimit.objects.select_for_update().filter(key=key)
    row = rows.first()
    if row is None:
        # A key of which there is no row was idle before.
        idle = Now() - timedelta(seconds=1)
        RateLimit.objects.bulk_create([RateLimit(key=key, next_slot_at=idle)], ignore_conflicts=True)
        row = rows.get()
    return row, RateLimit.objects.annotate(now=Now()).values_list("now", flat=True).get(pk=row.pk)


def block(key: str, seconds: float) -> None:
    """Let no call with this key begin for so many seconds; the vendor asked for a pause."""
    with transaction.atomic():
        row, now = _locked(key)
        until = now + timedelta(seconds=seconds)
        row.blocked_until = max(until, row.blocked_until or until)
        row.save(update_fields=["blocked_until"])


def seconds_blocked(*keys: str) -> float:
    """Return how long the pause still lasts that the vendor asked for, the longest of these keys'; at most 0 = none."""
    rows = RateLimit.objects.filter(key__in=keys, blocked_until__isnull=False).annotate(now=Now())
    return max(((row.blocked_until - row.now).total_seconds() for row in rows if row.blocked_until), default=0.0)


def paced(key: str, limit: int, items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield each item when a call for it may begin; raises `LongPause` where the vendor wants none for a while."""
    rest = iter(items)
    while batch := list(islice(rest, max(1, int(limit * _BLOCK)))):
        while batch:
            reservation = reserve(key, limit, len(batch))
            if reservation is None:
                if (pause := seconds_blocked(key)) > PATIENCE:
                    raise LongPause(pause)
                time.sleep(_BLOCK)
                continue
            for slot in reservation.slots:
                time.sleep(max(0.0, slot - time.monotonic()))
                if not reservation.is_late(slot):
                    yield batch.pop(0)


def acquire(key: str, limit: int) -> None:
    """Wait until one call may begin; raises `LongPause` where the vendor wants none for a while."""
    next(paced(key, limit, [None]))
