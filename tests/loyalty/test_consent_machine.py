"""Consent under facts in any order, from any source, at any time: the laws of opt-out hold after every single one.

The facts are kept here too, and the laws are stated over them: what a person said last wins, a tie goes to the opt-out,
a block and an erasure hold until they are lifted or overtaken, and no list or answer undoes what a person decided.
"""

from datetime import datetime, timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loyalty import consent
from loyalty.models import Consent, ConsentEvent
from messaging import invariants
from tests.examples import examples
from tests.factories import make_site

pytestmark = pytest.mark.django_db
State, Source = Consent.State, ConsentEvent.Source
PHONE = "+17705550101"
_LONG_AGO = timezone.now() - timedelta(days=30)
_DECIDED = (State.UNSUBSCRIBED, State.BLOCKED, State.ERASED)
# Minutes after `_LONG_AGO`; few of them, so that ties are common. None is a fact without a time.
_TIMES = st.sampled_from([None, 0, 1, 2, 3])


class Facts(RuleBasedStateMachine):
    """One phone at one site, and the same phone at another, of which nothing is ever heard."""

    def __init__(self) -> None:
        super().__init__()
        self.scope = transaction.atomic()
        self.scope.__enter__()
        self.site, self.other = make_site(), make_site()
        # The latest dated opt-out and opt-in that the person made, and whether staff block them.
        self.out_at: datetime | None = None
        self.in_at: datetime | None = None
        self.was_out_undated = False
        self.erased_at: datetime | None = None
        self.is_blocked = False

    def teardown(self) -> None:
        try:
            assert {name: n for found in invariants.violations().values() for name, n in found.items() if n} == {}
        finally:
            transaction.set_rollback(True)
            self.scope.__exit__(None, None, None)

    @property
    def state(self) -> str:
        return consent.state_of(self.site, PHONE)

    # --- What the person says -----------------------------------------------------------------------------------------

    @rule(minutes=_TIMES)
    def webhook_says_unsubscribed(self, minutes: int | None) -> None:
        at = _moment(minutes)
        before = self.state
        self._hear(State.UNSUBSCRIBED, Source.WEBHOOK, at)
        if at is not None:
            self.out_at = max(at, self.out_at or at)
        elif self.state == State.UNSUBSCRIBED and before != State.UNSUBSCRIBED:
            self.was_out_undated = True

    @rule(minutes=_TIMES)
    def webhook_says_subscribed(self, minutes: int | None) -> None:
        at = _moment(minutes)
        before = self.state
        self._hear(State.SUBSCRIBED, Source.WEBHOOK, at)
        if at is not None:
            self.in_at = max(at, self.in_at or at)
        else:
            assert before not in _DECIDED or self.state == before, "an opt-in without a time undid a decision"

    @rule()
    def the_person_comes_back_now(self) -> None:
        """A verified opt-in that is newer than everything is heard, unless staff block the person."""
        now = timezone.now() + timedelta(seconds=1)
        self._hear(State.SUBSCRIBED, Source.WEBHOOK, now)
        self.in_at = now
        assert self.state == (State.BLOCKED if self.is_blocked else State.SUBSCRIBED)

    # --- What lists and calls say -------------------------------------------------------------------------------------

    @rule(minutes=_TIMES, source=st.sampled_from([Source.SUBSCRIBER_LIST, Source.ELIGIBILITY]))
    def list_or_answer_says_subscribed(self, minutes: int | None, source: str) -> None:
        before = self.state
        if source == Source.SUBSCRIBER_LIST:
            consent.hear_many(self.site, [(PHONE, _moment(minutes))], source=source)
        else:
            self._hear(State.SUBSCRIBED, source, None)
        assert self.state == (before if before in _DECIDED else State.SUBSCRIBED)
        if minutes is not None and source == Source.SUBSCRIBER_LIST and before not in _DECIDED:
            self.in_at = max(_moment(minutes) or _LONG_AGO, self.in_at or _LONG_AGO)

    @rule()
    def mark_to_ask(self) -> None:
        before = self.state
        consent.mark_to_ask(self.site, [PHONE])
        assert self.state == (State.TO_ASK if before == State.UNKNOWN else before)

    @precondition(lambda self: self.state == State.TO_ASK)
    @rule(goes=st.booleans())
    def ask(self, goes: bool) -> None:
        row = Consent.objects.get(site=self.site, address=PHONE)
        assert consent.step(row, State.REQUESTED, expected=[State.TO_ASK])
        if not goes:
            assert consent.step(row, State.TO_ASK, expected=[State.REQUESTED], detail="busy")
        assert not consent.step(row, State.REQUESTED, expected=[State.SUBSCRIBED])

    # --- What staff do ------------------------------------------------------------------------------------------------

    @rule()
    def opt_out_here(self) -> None:
        row = consent.opt_out(self.site, PHONE)
        assert self.state in _DECIDED
        self.out_at = max(row.event_at or timezone.now(), self.out_at or _LONG_AGO)

    @rule()
    def block(self) -> None:
        before = self.state
        consent.block(self.site, PHONE)
        assert self.state == (before if before == State.ERASED else State.BLOCKED)
        self.is_blocked = True

    @rule()
    def lift_block(self) -> None:
        before = self.state
        consent.lift_block(self.site, PHONE)
        assert before == State.BLOCKED or self.state == before
        self.is_blocked = False

    @rule()
    def erase(self) -> None:
        row = consent.erase(self.site, PHONE)
        self.erased_at = row.event_at
        assert self.state == State.ERASED

    # --- What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def an_opt_out_wins_over_what_is_not_newer(self) -> None:
        if self.out_at is not None and (self.in_at is None or self.in_at <= self.out_at):
            assert self.state != State.SUBSCRIBED
        if self.was_out_undated and self.in_at is None:
            assert self.state != State.SUBSCRIBED

    @invariant()
    def an_erasure_holds_until_the_person_comes_back(self) -> None:
        if self.erased_at is not None and (self.in_at is None or self.in_at <= self.erased_at):
            assert self.state == State.ERASED
            assert not Consent.objects.filter(site=self.site, address=PHONE).exclude(state=State.UNKNOWN).exists()

    @invariant()
    def a_block_is_never_texted(self) -> None:
        if self.is_blocked:
            assert self.state in (State.BLOCKED, State.ERASED)

    @invariant()
    def the_sender_sees_the_same(self) -> None:
        with transaction.atomic():
            seen = consent.lock_states(self.site.pk, [PHONE]).get(PHONE, "")
        assert (seen == State.SUBSCRIBED) == (self.state == State.SUBSCRIBED)

    @invariant()
    def another_site_hears_nothing(self) -> None:
        assert consent.state_of(self.other, PHONE) == State.UNKNOWN

    def _hear(self, state: str, source: str, at: datetime | None) -> None:
        consent.hear(self.site, channel="TEXT", address=PHONE, state=state, source=source, event_at=at)


def _moment(minutes: int | None) -> datetime | None:
    return None if minutes is None else _LONG_AGO + timedelta(minutes=minutes)


def test_consent_under_facts_in_any_order() -> None:
    run_state_machine_as_test(
        Facts,
        settings=settings(
            max_examples=examples(60),
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
