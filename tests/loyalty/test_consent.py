"""Consent: facts in any order, opt-out wins, and nothing brings back who was blocked or erased."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from loyalty import consent
from loyalty.models import Consent, ConsentEvent, Site
from tests.concurrency import meanwhile
from tests.examples import examples
from tests.factories import make_site, make_user

pytestmark = pytest.mark.django_db

State, Source = Consent.State, ConsentEvent.Source
PHONE = "+17705550101"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
IN, OUT = State.SUBSCRIBED, State.UNSUBSCRIBED


def at(minutes: int | None) -> datetime | None:
    return None if minutes is None else NOON + timedelta(minutes=minutes)


def hear(
    site: Site, state: str, minutes: int | None, *, phone: str = PHONE, source: str = Source.WEBHOOK, **fields: Any
) -> str:
    return consent.hear(
        site, channel="TEXT", address=phone, state=state, source=source, event_at=at(minutes), **fields
    ).state


# --- Order ------------------------------------------------------------------------------------------------------------

SIX = [
    ([(IN, 1), (OUT, 2), (IN, 4), (OUT, 3), (IN, None), (OUT, None)], IN),
    ([(IN, 1), (OUT, 2), (IN, 3), (OUT, 3), (IN, None), (IN, 2)], OUT),
]


@pytest.mark.parametrize(("facts", "expected"), SIX)
def test_all_720_orders_of_six_facts_end_the_same(facts: list[tuple[str, int | None]], expected: str) -> None:
    site = make_site()
    orders = list(permutations(facts))
    for number, order in enumerate(orders[:: len(orders) // examples(len(orders))]):
        phone = f"+1770555{number:04d}"
        for state, minutes in order:
            hear(site, state, minutes, phone=phone)
        assert consent.state_of(site, phone) == expected, order


FACTS = st.lists(st.tuples(st.sampled_from([IN, OUT]), st.none() | st.integers(0, 5)), max_size=8)


class AnyOrder(TestCase):
    @settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
    @given(facts=FACTS, data=st.data())
    def test_the_strongest_fact_decides(self, facts: list[tuple[str, int | None]], data: Any) -> None:
        """Later beats earlier, a time beats none, and a tie goes to the opt-out, in any order and with repeats."""
        site = make_site()
        for state, minutes in data.draw(st.permutations(facts)) + facts[:2]:
            hear(site, state, minutes)
        strongest = max(facts, key=lambda fact: (-1 if fact[1] is None else fact[1], fact[0] == OUT), default=None)
        assert consent.state_of(site, PHONE) == (strongest[0] if strongest else State.UNKNOWN)


def test_every_fact_is_in_the_ledger_with_what_it_claimed() -> None:
    site, user = make_site(), make_user()
    hear(site, OUT, 2)
    hear(site, IN, 1, by=user, evidence="list")
    ledger = ConsentEvent.objects.values_list("from_state", "to_state", "heard", "event_at", "by", "evidence")
    assert list(ledger) == [
        ("UNKNOWN", "UNSUBSCRIBED", "", at(2), None, ""),
        ("UNSUBSCRIBED", "UNSUBSCRIBED", "SUBSCRIBED", at(1), user.pk, "list"),
    ]


@pytest.mark.parametrize("source", [s for s in Source if s != Source.WEBHOOK])
def test_only_a_webhook_brings_back_who_opted_out(source: str) -> None:
    site = make_site()
    hear(site, OUT, 1)
    assert hear(site, IN, 2, source=source) == OUT
    assert hear(site, IN, None, source=source) == OUT
    assert hear(site, State.TO_ASK, None, source=source) == OUT
    assert hear(site, State.REQUESTED, None, source=source) == OUT
    assert hear(site, IN, 2) == IN


def test_asking_moves_only_forward() -> None:
    site = make_site()
    for state in (State.TO_ASK, State.REQUESTED, State.UNKNOWN, State.TO_ASK, IN):
        assert hear(site, state, None, source=Source.SUBSCRIBE_CALL) == state
    for state in (State.TO_ASK, State.REQUESTED, State.UNKNOWN):
        assert hear(site, state, None, source=Source.SUBSCRIBE_CALL) == IN


@pytest.mark.django_db(transaction=True)
def test_two_facts_at_the_same_moment_are_heard_one_after_the_other() -> None:
    site = make_site()
    consent.mark_to_ask(site, [PHONE])
    with transaction.atomic():
        hear(site, IN, 2)
        older = meanwhile(lambda: hear(site, OUT, 1))
    assert older.result() == consent.state_of(site, PHONE) == IN


def test_a_step_needs_the_claim_and_the_state_that_it_starts_from() -> None:
    site = make_site()
    consent.mark_to_ask(site, [PHONE])
    lost = Consent.objects.get()
    Consent.objects.update(fence=lost.fence + 1)
    assert not consent.step(lost, State.REQUESTED, expected=[State.TO_ASK])
    claimed = Consent.objects.get()
    consent.opt_out(site, PHONE)
    assert not consent.step(claimed, State.REQUESTED, expected=[State.TO_ASK])
    assert consent.state_of(site, PHONE) == OUT


def test_an_address_has_one_row_at_a_site() -> None:
    row = Consent.objects.create(site=make_site(), address=PHONE)
    Consent.objects.create(site=make_site(), address=PHONE)
    Consent.objects.create(site=row.site, address=PHONE, channel="EMAIL")
    with pytest.raises(IntegrityError):
        Consent.objects.create(site=row.site, address=PHONE)


def test_a_local_opt_out_wins_over_a_clock_that_runs_ahead() -> None:
    site, ahead = make_site(), timezone.now() + timedelta(minutes=4)
    consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=ahead)
    assert consent.opt_out(site, PHONE).state == OUT
    consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=ahead)
    assert consent.state_of(site, PHONE) == OUT


def test_a_time_far_ahead_is_no_time() -> None:
    site, far = make_site(), timezone.now() + timedelta(days=300)
    hear(site, OUT, 1)
    consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=far)
    assert consent.state_of(site, PHONE) == OUT
    hear(site, IN, 2)
    # An opt-out counts from now instead, and a later sign-up is heard again.
    row = consent.hear(site, channel="TEXT", address=PHONE, state=OUT, source=Source.WEBHOOK, event_at=far)
    assert (row.state, row.event_at < timezone.now() + timedelta(minutes=1)) == (OUT, True)
    later = timezone.now() + timedelta(minutes=2)
    consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=later)
    assert consent.state_of(site, PHONE) == IN


def test_consent_belongs_to_one_site_and_one_channel() -> None:
    ours, theirs = make_site(), make_site()
    hear(ours, IN, 1)
    hear(theirs, IN, 1)
    consent.opt_out(ours, PHONE)
    assert (consent.state_of(ours, PHONE), consent.state_of(theirs, PHONE)) == (OUT, IN)
    assert consent.state_of(ours, PHONE, "EMAIL") == State.UNKNOWN


# --- Blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_holds_against_everything_until_it_is_lifted() -> None:
    site = make_site()
    hear(site, IN, 1)
    assert consent.block(site, PHONE).state == State.BLOCKED
    assert hear(site, IN, 5) == hear(site, OUT, 6) == consent.opt_out(site, PHONE).state == State.BLOCKED
    assert consent.mark_to_ask(site, [PHONE]) == consent.hear_many(site, [(PHONE, at(9))], source="IMPORT") == 0
    assert consent.hidden_addresses(site, [PHONE, "+17705550102"]) == {PHONE: "BLOCKED"}


@pytest.mark.parametrize(
    ("before", "during", "after"),
    [
        ([(IN, 1)], [], IN),
        ([(OUT, 1)], [], OUT),
        ([], [], State.UNKNOWN),
        ([(IN, 1)], [(OUT, 2)], OUT),
        ([(IN, 3)], [(OUT, 2)], IN),
        ([(OUT, 1)], [(IN, 2)], IN),
        ([(OUT, 2)], [(IN, 2), (IN, None)], OUT),
        ([(State.TO_ASK, None)], [(OUT, 1)], OUT),
    ],
)
def test_lifting_a_block_leaves_what_was_heard(
    before: list[tuple[str, int | None]], during: list[tuple[str, int | None]], after: str
) -> None:
    site = make_site()
    for state, minutes in before:
        hear(site, state, minutes)
    consent.block(site, PHONE)
    for state, minutes in during:
        hear(site, state, minutes)
    consent.block(site, PHONE)
    assert consent.lift_block(site, PHONE).state == after
    assert consent.lift_block(site, PHONE).state == after
    if after == OUT:
        # The time of the opt-out is back too: an older sign-up does not win.
        assert hear(site, IN, 0) == OUT


def test_a_block_without_a_ledger_falls_back_to_the_row() -> None:
    site = make_site()
    Consent.objects.create(site=site, address=PHONE, state=OUT)
    consent.block(site, PHONE)
    assert consent.lift_block(site, PHONE).state == OUT


def test_lifting_what_is_not_blocked_changes_nothing() -> None:
    site = make_site()
    hear(site, OUT, 1)
    assert consent.lift_block(site, PHONE).state == OUT


def test_a_block_everywhere_is_one_on_every_site() -> None:
    sites = [make_site() for _ in range(3)]
    hear(sites[1], IN, 1)
    assert consent.block_everywhere(PHONE, evidence="asked by post") == 3
    assert {consent.state_of(site, PHONE) for site in sites} == {State.BLOCKED}


# --- Erasure ----------------------------------------------------------------------------------------------------------


def test_an_erased_address_is_known_by_its_hash_alone() -> None:
    ours, theirs = make_site(), make_site()
    hear(ours, IN, 1, evidence=f"row of {PHONE}")
    hear(theirs, IN, 1)
    row = consent.erase(ours, PHONE)
    assert (row.state, row.address.startswith("hash:"), PHONE in row.address) == (State.ERASED, True, False)
    assert not ConsentEvent.objects.filter(consent=row).exclude(evidence="").exists()
    assert (consent.state_of(ours, PHONE), consent.state_of(theirs, PHONE)) == (State.ERASED, IN)
    assert consent.hidden_addresses(ours, [PHONE]) == {PHONE: "ERASED"}
    assert consent.hidden_addresses(theirs, [PHONE]) == {}
    assert list(Consent.objects.filter(address=PHONE)) == [Consent.objects.get(site=theirs)]


def test_only_the_person_comes_back_from_an_erasure() -> None:
    site = make_site()
    consent.erase(site, PHONE)
    soon = timezone.now() + timedelta(minutes=2)
    assert consent.mark_to_ask(site, [PHONE]) == consent.hear_many(site, [(PHONE, soon)], source="IMPORT") == 0
    for source in (Source.ELIGIBILITY, Source.STAFF, Source.SUBSCRIBER_LIST):
        row = consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=source, event_at=soon)
        assert row.state == State.ERASED
    assert hear(site, IN, 1) == hear(site, OUT, 1) == consent.opt_out(site, PHONE).state == State.ERASED
    row = consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=soon)
    assert (row.state, row.address) == (IN, PHONE)
    assert Consent.objects.count() == 1
    assert consent.hidden_addresses(site, [PHONE]) == {}


def test_an_erasure_does_not_undo_a_block() -> None:
    site, soon = make_site(), timezone.now() + timedelta(minutes=2)
    consent.block(site, PHONE)
    assert consent.erase(site, PHONE).state == State.ERASED
    assert consent.block(site, PHONE).state == State.ERASED
    row = consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=soon)
    assert row.state == State.BLOCKED
    assert consent.lift_block(site, PHONE).state == IN


def test_a_row_made_to_be_locked_does_not_betray_or_free_an_erased_person() -> None:
    site, soon = make_site(), timezone.now() + timedelta(minutes=2)
    consent.erase(site, PHONE)
    with transaction.atomic():
        assert consent.lock_states(site.pk, [PHONE]) == {PHONE: "UNKNOWN"}
    assert consent.state_of(site, PHONE) == State.ERASED
    row = consent.hear(site, channel="TEXT", address=PHONE, state=IN, source=Source.WEBHOOK, event_at=soon)
    assert (row.state, row.address) == (IN, PHONE)
    assert Consent.objects.count() == 1


def test_an_erasure_is_seen_by_work_that_read_the_site_before() -> None:
    site = make_site()
    stale = Site.objects.get(pk=site.pk)
    consent.erase(site, PHONE)
    assert consent.hidden_addresses(stale, [PHONE]) == {PHONE: "ERASED"}


@pytest.mark.django_db(transaction=True)
def test_an_opt_out_and_an_erasure_at_the_same_moment_leave_one_row() -> None:
    site = make_site()
    hear(site, IN, 1)
    errors: list[BaseException] = []

    def run(act: Any) -> None:
        try:
            for _ in range(5):
                act(Site.objects.get(pk=site.pk), PHONE)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in (consent.erase, consent.opt_out, consent.erase)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Consent.objects.get().state == State.ERASED


# --- Many at once -----------------------------------------------------------------------------------------------------


def test_a_list_raises_only_those_of_whom_nothing_stronger_is_known() -> None:
    site, other = make_site(), make_site()
    phones = [f"+1770555010{number}" for number in range(8)]
    for phone, state in zip(phones, State, strict=False):
        if state == State.ERASED:
            consent.erase(site, phone)
        elif state != State.UNKNOWN:
            Consent.objects.create(site=site, address=phone, state=state)
    assert consent.hear_many(site, [(phone, at(9)) for phone in phones], source=Source.SUBSCRIBER_LIST) == 4
    assert {phone: consent.state_of(site, phone) for phone in phones} == dict(
        zip(phones, [IN, IN, IN, IN, OUT, State.BLOCKED, State.ERASED, IN], strict=True)
    )
    assert not Consent.objects.filter(site=other).exists()
    assert ConsentEvent.objects.get(heard=IN).to_state == OUT


def test_a_list_without_times_does_not_move_the_time_of_a_subscription() -> None:
    site = make_site()
    hear(site, IN, 5)
    consent.hear_many(site, [(PHONE, None)], source=Source.SUBSCRIBER_LIST)
    consent.hear_many(site, [(PHONE, at(3))], source=Source.SUBSCRIBER_LIST)
    assert Consent.objects.get().event_at == at(5)
    assert hear(site, OUT, 4) == IN


def test_marking_to_ask_takes_the_unknown_alone() -> None:
    site = make_site()
    hear(site, OUT, 1, phone="+17705550102")
    consent.block(site, "+17705550103")
    consent.erase(site, "+17705550104")
    phones = [f"+1770555010{number}" for number in (1, 2, 3, 4, 1)]
    assert [consent.mark_to_ask(site, phones), consent.mark_to_ask(site, phones)] == [1, 0]
    assert consent.state_of(site, PHONE) == State.TO_ASK
    assert ConsentEvent.objects.filter(to_state=State.TO_ASK).count() == 1


def test_locking_makes_the_missing_rows() -> None:
    site = make_site()
    hear(site, OUT, 1)
    with transaction.atomic():
        states = consent.lock_states(site.pk, ["+17705550102", PHONE, PHONE])
    assert states == {PHONE: OUT, "+17705550102": State.UNKNOWN}
