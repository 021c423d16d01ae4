"""What a named person decides about a message, and that nobody else may."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from loyalty import consent
from loyalty.models import AuditEntry, LoyaltyAction
from messaging import decisions, invariants
from messaging.acceptance_ledger import compare
from messaging.dispatch import send_due
from messaging.models import Message, SendAttempt
from tests.concurrency import meanwhile
from tests.factories import make_member, make_message, make_user

from .world import World, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def somebody(world: World) -> User:
    return make_user(world.site)


def unknown_message(world: World, fault: str = "reset_after", **options: Any) -> Message:
    """A message whose call ended without an answer; by default Attentive had accepted it."""
    member = make_member(world.site)
    consent.hear_many(world.site, [(member.phone, None)], source="IMPORT")
    world.sandbox.add_subscribers(world.company, [member.phone])
    message = make_message(member)
    LoyaltyAction.objects.filter(pk=message.action_id).update(outcome="MATCHED", processed_at=message.created_at)
    world.sandbox.set(duplicate_seconds=0)
    world.sandbox.add_fault("/1/messages", fault, company=world.company, **options)
    send_due(seconds=5)
    message.refresh_from_db()
    assert message.state == "UNKNOWN"
    return message


def assert_sound(world: World) -> None:
    """Nothing is violated, neither here nor in what Attentive accepted for this company."""
    lines = [json.dumps(record) for record in world.sandbox.ledger() if record["company"] == world.company]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as ledger:
        ledger.write("\n".join(lines))
        ledger.flush()
        found = [*invariants.violations().values(), *compare(Path(ledger.name)).violations.values()]
    assert {name: n for names in found for name, n in names.items() if n} == {}


def test_a_text_that_is_sent_again_carries_the_name_of_who_ordered_it(world: World, somebody: User) -> None:
    message = unknown_message(world)
    assert decisions.send_again([message], by=somebody) == 1
    assert state_of(message) == ("QUEUED", "")
    send_due(seconds=5)
    assert state_of(message) == ("ACCEPTED", "")
    named = SendAttempt.objects.filter(message=message).order_by("number").values_list("outcome", "resent_by")
    assert list(named) == [("UNKNOWN", None), ("ACCEPTED", somebody.pk)]
    assert len(world.texts()) == 2
    assert_sound(world)
    assert AuditEntry.objects.get(event="message.sent_again").user == somebody


def test_an_order_to_send_again_stands_over_a_retry(world: World, somebody: User) -> None:
    message = unknown_message(world)
    decisions.send_again([message], by=somebody)
    world.sandbox.add_fault("/1/messages", "status", status=503, company=world.company)
    send_due(seconds=20)
    assert state_of(message) == ("ACCEPTED", "")
    assert set(message.attempts.filter(number__gt=1).values_list("resent_by", flat=True)) == {somebody.pk}
    assert_sound(world)


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_the_same_moment_are_one_order(world: World, somebody: User) -> None:
    message = unknown_message(world)
    with transaction.atomic():
        assert decisions.send_again([message], by=somebody) == 1
        other = meanwhile(lambda: decisions.send_again([message], by=somebody))
    assert other.result() == 0
    assert AuditEntry.objects.filter(event="message.sent_again").count() == 1


def test_sending_again_obeys_an_opt_out(world: World, somebody: User) -> None:
    message = unknown_message(world)
    consent.opt_out(world.site, message.to)
    decisions.send_again([message], by=somebody)
    send_due(seconds=5)
    assert state_of(message) == ("SKIPPED", "OPTED_OUT")
    assert len(world.texts()) == 1
    assert_sound(world)


def test_treating_as_sent_settles_and_sends_nothing(world: World, somebody: User) -> None:
    message = unknown_message(world, "reset_before")
    assert decisions.treat_as_sent([message], by=somebody) == 1
    send_due(seconds=5)
    assert state_of(message) == ("ACCEPTED", "RESOLVED_AS_SENT")
    assert world.texts() == []
    assert_sound(world)
    # A second click finds nothing left to decide.
    assert decisions.treat_as_sent([message], by=somebody) == decisions.send_again([message], by=somebody) == 0


def test_only_what_waits_is_cancelled(world: World, somebody: User) -> None:
    unknown, waiting = unknown_message(world), make_message(world.subscriber())
    Message.objects.filter(pk=waiting.pk).update(state="HELD", reason="CAMPAIGN_PAUSED")
    assert decisions.cancel([waiting, unknown], by=somebody) == 1
    send_due(seconds=5)
    assert (state_of(waiting), state_of(unknown)[0]) == (("CANCELLED", "CANCELLED"), "UNKNOWN")
