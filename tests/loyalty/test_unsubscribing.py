"""Taking a person out: here at once, and at Attentive once, whatever fails in between."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent, unsubscribing
from loyalty.models import AccessToken, ConsentEvent
from tests.factories import make_consent, make_member, make_site
from tests.messaging.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(sandbox: SandboxProcess) -> World:
    return World(sandbox)


def told(world: World) -> int:
    return sum(record["company"] == world.company for record in world.sandbox.ledger("UNSUBSCRIBE"))


def leave(world: World, address: str) -> tuple[str, str]:
    done = unsubscribing.unsubscribe(world.site, address)
    return done.state, done.attentive


def test_staff_take_a_person_out_here_and_at_attentive_once(world: World) -> None:
    member = world.subscriber()
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "done")
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "already")
    assert told(world) == 1
    assert consent.state_of(world.site, member.phone) == "UNSUBSCRIBED"


def test_a_failed_call_is_tried_anew_and_an_unclear_one_is_not(world: World) -> None:
    first, second = world.subscriber(), world.subscriber()
    world.sandbox.add_fault("/v1/subscriptions/unsubscribe", "status", status=503)
    assert leave(world, first.phone) == ("UNSUBSCRIBED", "failed")
    assert leave(world, first.phone) == ("UNSUBSCRIBED", "done")
    assert leave(world, first.phone) == ("UNSUBSCRIBED", "already")
    world.sandbox.add_fault("/v1/subscriptions/unsubscribe", "status", status=500)
    assert leave(world, second.phone) == ("UNSUBSCRIBED", "unclear")
    assert leave(world, second.phone) == ("UNSUBSCRIBED", "already")


def test_without_a_key_only_attentive_is_left_untold(world: World) -> None:
    member = world.subscriber()
    AccessToken.objects.filter(site=world.site).update(revoked_at=timezone.now())
    done = unsubscribing.unsubscribe(world.site, member.phone)
    assert (done.state, done.attentive) == ("UNSUBSCRIBED", "not told")
    AccessToken.objects.filter(site=world.site).update(revoked_at=None)
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "done")


def test_with_a_key_that_cannot_be_opened_attentive_is_told_later(world: World, settings: Any) -> None:
    member, keys = world.subscriber(), settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    done = unsubscribing.unsubscribe(world.site, member.phone)
    assert (done.state, done.attentive) == ("UNSUBSCRIBED", "not told")
    assert "FIELD_ENCRYPTION_KEYS" in done.sentence
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "done")
    assert told(world) == 1


def test_who_left_by_attentives_word_is_not_reported_back(world: World) -> None:
    member = world.subscriber()
    consent.hear(
        world.site, channel="TEXT", address=member.phone, state="UNSUBSCRIBED", source="WEBHOOK",
        event_at=timezone.now(),
    )  # fmt: skip
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "already")
    assert told(world) == 0


def test_who_came_back_is_reported_again(world: World) -> None:
    member = world.subscriber()
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "done")
    row = consent.hear(
        world.site, channel="TEXT", address=member.phone, state="SUBSCRIBED", source="WEBHOOK",
        event_at=timezone.now() + timedelta(minutes=1),
    )  # fmt: skip
    assert row.state == "SUBSCRIBED"
    assert leave(world, member.phone) == ("UNSUBSCRIBED", "done")
    assert told(world) == 2


def test_erased_and_blocked_people(world: World) -> None:
    erased, blocked = world.subscriber(), world.subscriber()
    consent.erase(world.site, erased.phone)
    consent.block(world.site, blocked.phone)
    assert leave(world, erased.phone) == ("ERASED", "already")
    assert [leave(world, blocked.phone) for _ in range(2)] == [("BLOCKED", "done"), ("BLOCKED", "already")]


@pytest.mark.parametrize("spelling", ["+5511955550101", "0055 11 95555-0101", "770.555.0199", "Nobody@Example.com "])
def test_people_who_are_no_members_are_opted_out(world: World, spelling: str) -> None:
    assert leave(world, spelling)[0] == "UNSUBSCRIBED"
    assert leave(world, spelling)[1] == "already"


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_the_same_moment_tell_attentive_once(world: World) -> None:
    member = world.subscriber()
    results: list[str] = []

    def click() -> None:
        results.append(leave(world, member.phone)[1])
        connection.close()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["already"] * 3 + ["done"]
    assert told(world) == 1


def test_the_command_waits_for_what_attentive_puts_off(world: World, capsys: Any) -> None:
    member = world.subscriber()
    world.sandbox.add_fault("/v1/subscriptions/unsubscribe", "status", status=429, times=2)
    call_command("unsubscribe_member", "--site", world.site.site_id, member.phone, "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["attentive"] == "done"
    assert told(world) == 1


def test_by_e_mail_the_phones_of_its_members_are_out_too(world: World, capsys: Any) -> None:
    member, other = world.subscriber(email="ada@example.com"), make_site()
    stranger, elsewhere = world.subscriber(email="grace@example.com"), make_member(other, email="ada@example.com")
    make_consent(elsewhere)
    call_command("unsubscribe_member", "--site", world.site.site_id, "Ada@Example.com", "--json")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["channel"], result["state"]) == ("EMAIL", "UNSUBSCRIBED")
    assert [(one["channel"], one["state"], one["attentive"]) for one in result["phones"]] == [
        ("TEXT", "UNSUBSCRIBED", "done")
    ]
    assert consent.state_of(world.site, member.phone) == "UNSUBSCRIBED"
    assert ConsentEvent.objects.filter(consent__address=member.phone, source="STAFF").count() == 1
    assert consent.state_of(world.site, stranger.phone) == consent.state_of(other, elsewhere.phone) == "SUBSCRIBED"


def test_the_phones_are_out_before_attentive_is_told_of_the_e_mail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = world.subscriber(email="ada@example.com")

    def cut_off(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("loyalty.management.commands.unsubscribe_member.unsubscribe", cut_off)
    with pytest.raises(TimeoutError):
        call_command("unsubscribe_member", "--site", world.site.site_id, "ada@example.com")
    assert consent.state_of(world.site, member.phone) == "UNSUBSCRIBED"


def test_the_command(world: World, capsys: Any) -> None:
    member, other = world.subscriber(), make_site()
    consent.hear(other, channel="TEXT", address=member.phone, state="SUBSCRIBED", source="WEBHOOK", event_at=None)
    spelled = f"({member.phone[2:5]}) {member.phone[5:8]}-{member.phone[8:]}"
    call_command("unsubscribe_member", "--site", world.site.site_id, spelled, "--json")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {"state": "UNSUBSCRIBED", "channel": "TEXT", "attentive": "done", "sentence": ""}
    assert consent.state_of(other, member.phone) == "SUBSCRIBED"
    call_command("unsubscribe_member", "--site", world.site.site_id, member.phone)
    assert "Attentive knew it already" in capsys.readouterr().out
    for arguments in (("--site", "none", member.phone), ("--site", world.site.site_id, "12")):
        with pytest.raises(CommandError, match=r"\.$"):
            call_command("unsubscribe_member", *arguments)
