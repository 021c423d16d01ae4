import time
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from attentive_integration import rate_limit
from attentive_integration.models import RateLimit
from tests.concurrency import meanwhile

pytestmark = pytest.mark.django_db


def most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    return max(sum(start <= moment < start + 1 for moment in times) for start in times)


def test_blocks_handed_to_several_processes_keep_the_limit_in_any_sliding_second() -> None:
    slots: list[float] = []
    began = time.monotonic()
    while time.monotonic() < began + 3:
        for _process in range(3):
            reservation = rate_limit.reserve("token", 50, 7)
            if reservation is not None:
                slots += reservation.slots
        time.sleep(0.01)
    assert most_in_a_second(slots) <= 50
    # Everything up to the horizon is handed out, without gaps.
    assert len(slots) >= (max(slots) - min(slots)) * 50 * 0.95


@pytest.mark.django_db(transaction=True)
def test_two_processes_never_get_the_same_slot() -> None:
    rate_limit.reserve("token", 10, 1)
    with transaction.atomic():
        ours = rate_limit.reserve("token", 10, 1)
        other = meanwhile(lambda: rate_limit.reserve("token", 10, 1))
    theirs = other.result()
    assert ours is not None and theirs is not None
    assert theirs.slots[0] - ours.slots[0] > 0.09


def test_a_reservation_never_reaches_further_than_the_horizon() -> None:
    slots: list[float] = []
    while (reservation := rate_limit.reserve("token", 10, 100)) is not None:
        slots += reservation.slots
    assert slots[-1] - time.monotonic() <= rate_limit.HORIZON
    assert len(slots) == 5
    assert rate_limit.available("token", 10) <= 0
    assert rate_limit.reserve("another token", 10, 1) is not None


def test_items_are_paced_evenly() -> None:
    moments = [time.monotonic() for _ in rate_limit.paced("token", 20, range(30))]
    assert len(moments) == 30
    assert most_in_a_second(moments) <= 20
    assert moments[-1] - moments[0] >= 29 / 20


def test_a_late_slot_is_dropped_unless_the_second_before_was_idle_and_the_block_is_small() -> None:
    fresh = rate_limit.reserve("token", 100, 2)
    assert fresh is not None
    close = rate_limit.reserve("token", 100, 2)
    assert close is not None
    crowd = rate_limit.reserve("another token", 100, 20)
    assert crowd is not None
    time.sleep(0.3)
    assert close.is_late(close.slots[0])
    assert crowd.is_late(crowd.slots[0])
    assert not fresh.is_late(fresh.slots[0])
    RateLimit.objects.update(next_slot_at=timezone.now() - timedelta(seconds=5))
    idle = rate_limit.reserve("token", 100, 1)
    assert idle is not None
    time.sleep(0.3)
    assert not idle.is_late(idle.slots[0])


def test_a_block_stops_the_key_and_no_other() -> None:
    rate_limit.reserve("ours", 100, 1)
    rate_limit.block("ours", 60)
    rate_limit.block("ours", 0)
    assert rate_limit.reserve("ours", 100, 1) is None
    assert rate_limit.reserve("theirs", 100, 1) is not None


def test_a_short_pause_is_waited_for_and_of_a_long_one_the_caller_is_told() -> None:
    began = time.monotonic()
    rate_limit.block("ours", 1)
    rate_limit.acquire("ours", 100)
    assert 0.9 < time.monotonic() - began < 3
    rate_limit.block("ours", 600)
    rate_limit.block("theirs", 60)
    with pytest.raises(rate_limit.LongPause, match="10 min") as told:
        rate_limit.acquire("ours", 100)
    assert time.monotonic() - began < 5
    assert (told.value.kind, round(told.value.retry_after or 0)) == ("RETRY", 600)
    assert round(rate_limit.seconds_blocked("theirs")) == 60
    assert round(rate_limit.seconds_blocked("theirs", "ours", "another")) == 600
    rate_limit.reserve("another", 100, 1)
    assert rate_limit.seconds_blocked("another", "absent") <= 0


def test_without_a_limit_too_a_process_that_was_frozen_makes_no_call() -> None:
    reservation = rate_limit.reserve("unlimited", 100_000, 1)
    assert reservation is not None
    (slot,) = reservation.slots
    assert not reservation.is_late(slot) and reservation.is_late(slot - 10)


def test_no_limit_needs_no_row() -> None:
    reservation = rate_limit.reserve("token", 1_000_000, 500)
    assert reservation is not None
    assert len(reservation.slots) == 500
    assert not RateLimit.objects.exists()
