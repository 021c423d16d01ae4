"""Claims are leases with a fence: whoever loses one writes nothing any more."""

import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from attentive_integration import rate_limit
from attentive_integration.http import ErrorKind, VendorError
from messaging import decisions, last_look, outcomes, queue
from messaging.models import Message, SendAttempt
from tests.concurrency import meanwhile
from tests.factories import make_message

from .world import World, state_of

pytestmark = pytest.mark.django_db


def test_a_claim_that_died_is_due_again_and_a_call_that_died_is_unknown(world: World) -> None:
    dead_claim, dead_call = make_message(world.subscriber()), make_message(world.subscriber())
    (claimed,) = [m for m in queue.claim(world.site, 10) if m.pk == dead_call.pk]
    assert [m.pk for m in last_look.begin(world.site.pk, [claimed])] == [dead_call.pk]
    assert queue.sweep() == 0
    Message.objects.update(lease_until=Now() - timedelta(seconds=1))
    queue.sweep()
    assert state_of(dead_claim) == ("QUEUED", "")
    assert state_of(dead_call) == ("UNKNOWN", "LEASE_LOST")
    assert SendAttempt.objects.get().outcome == "UNKNOWN"
    # The worker was only slow: what it brings now comes too late, and is not written.
    outcomes.record([outcomes.Call(claimed, timezone.now())])
    assert state_of(dead_call) == ("UNKNOWN", "LEASE_LOST")


def test_the_lease_of_a_call_outlasts_the_latest_call_by_a_little(world: World) -> None:
    latest_end = settings.VENDOR_DEADLINE_SECONDS + max(
        slot + reservation.tolerance - time.monotonic()
        for limit in (10, 150, 1_000_000)
        if (reservation := rate_limit.reserve(f"token {limit}", limit, 1_000))
        for slot in reservation.slots
    )
    # Two seconds to write it down; and no longer, because nobody owns a dead worker's messages before.
    assert timedelta(seconds=latest_end + 2) < queue.CALL_LEASE <= timedelta(seconds=20)


def test_whoever_lost_the_lease_does_not_begin(world: World) -> None:
    message = make_message(world.subscriber())
    slow = queue.claim(world.site, 10)
    Message.objects.update(lease_until=Now() - timedelta(seconds=1))
    queue.sweep()
    (other,) = queue.claim(world.site, 10)
    assert last_look.begin(world.site.pk, slow) == []
    assert [m.pk for m in last_look.begin(world.site.pk, [other])] == [message.pk]
    assert SendAttempt.objects.count() == 1


def test_a_call_that_was_lost_does_not_speak_for_the_next_one(world: World) -> None:
    message = make_message(world.subscriber())
    slow = last_look.begin(world.site.pk, queue.claim(world.site, 10))
    Message.objects.update(lease_until=Now() - timedelta(seconds=1))
    queue.sweep()
    decisions.send_again([message], by=None)
    assert last_look.begin(world.site.pk, queue.claim(world.site, 10)) == [message]
    refused = VendorError("?", ErrorKind.REFUSED, status=400, cause="HTTP_400")
    outcomes.record([outcomes.Call(slow[0], timezone.now(), error=refused)])
    assert state_of(message) == ("SENDING", "")


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_claim_the_same_text(world: World) -> None:
    for _ in range(3):
        make_message(world.subscriber())
    with transaction.atomic():
        ours = queue.claim(world.site, 2)
        theirs = meanwhile(lambda: queue.claim(world.site, 2))
    claimed = [message.pk for message in ours + theirs.result()]
    assert len(claimed) == len(set(claimed)) == 3


def test_whoever_lost_the_lease_gives_nothing_back(world: World) -> None:
    message = make_message(world.subscriber())
    slow = queue.claim(world.site, 10)
    Message.objects.update(lease_until=Now() - timedelta(seconds=1))
    queue.sweep()
    queue.claim(world.site, 10)
    queue.give_back(slow)
    assert state_of(message) == ("CLAIMED", "")


@pytest.mark.parametrize("late", ["begins", "gives back"])
def test_what_was_decided_after_a_lost_lease_stands(world: World, late: str) -> None:
    message = make_message(world.subscriber())
    slow = queue.claim(world.site, 10)
    Message.objects.update(lease_until=Now() - timedelta(seconds=1))
    queue.sweep()
    decisions.cancel([message], by=None)
    if late == "begins":
        assert last_look.begin(world.site.pk, slow) == []
    else:
        queue.give_back(slow)
    assert state_of(message) == ("CANCELLED", "CANCELLED")
