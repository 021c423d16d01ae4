"""Whatever happens in whatever order, a text is sent once at most, and the message tells the truth about it.

Hypothesis drives the real engine against the database: workers that are fast, slow or dead, a vendor that accepts and
answers or does not, webhooks, opt-outs, pauses, breakers, and a person who decides. The vendor's book is kept here.
"""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from attentive_integration.http import Answer, ErrorKind, VendorError
from loyalty import breakers, consent, stops
from loyalty.models import AccessToken, Breaker, Consent, ConsentEvent, Member, Site
from messaging import decisions, invariants, last_look, outcomes, queue, webhooks
from messaging.models import Campaign, Message, SendAttempt
from messaging.outcomes import Call
from messaging.triggers import match_actions
from tests.examples import examples
from tests.factories import make_action, make_campaign, make_member, make_site, make_token, make_user

pytestmark = pytest.mark.django_db
State = Message.State
LEGACY = AccessToken.Kind.ATTENTIVE_LEGACY

_OK = Answer(200, {}, "", None, None, 5)
# What the vendor does with a call, and what the worker hears of it.
_ENDS: dict[str, tuple[bool, Answer | VendorError | None]] = {
    "accepted": (True, _OK),
    "accepted, no answer": (True, VendorError("?", ErrorKind.UNKNOWN, cause="READ_TIMEOUT")),
    "not accepted, no answer": (False, VendorError("?", ErrorKind.UNKNOWN, cause="RESET")),
    "busy": (False, VendorError("?", ErrorKind.RETRY, status=429, retry_after=0.0, cause="HTTP_429")),
    "refused": (False, VendorError("?", ErrorKind.REFUSED, status=400, cause="HTTP_400")),
    "token refused": (False, VendorError("?", ErrorKind.CREDENTIALS, status=401, cause="HTTP_401")),
    "too late to call": (False, None),
}


class Engine(RuleBasedStateMachine):
    """Two sites; the members, the workers' hands, and the vendor's book."""

    def __init__(self) -> None:
        super().__init__()
        self.scope = transaction.atomic()
        self.scope.__enter__()
        self.sites = [make_site(), make_site()]
        self.user = make_user(*self.sites)
        self.members: list[Member] = []
        for site in self.sites:
            make_token(site, LEGACY, "legacy-placeholder")
            make_campaign(site, "Order {{ data.order_id }}")
            self.members += [make_member(site, phone=f"+1770555010{number}") for number in range(2)]
        for member in self.members:
            consent.hear_many(member.site, [(member.phone, None)], source=ConsentEvent.Source.SUBSCRIBER_LIST)
        self.orders = 0
        # What workers hold: claimed messages, calls that may leave, calls that ended and are not written down.
        self.claimed: list[Message] = []
        self.may_leave: list[Message] = []
        self.ended: list[Call] = []
        # The vendor's book, which texts a webhook has spoken of, and how often a person ordered a text again.
        self.book: Counter[int] = Counter()
        self.spoken: Counter[int] = Counter()
        self.ordered: Counter[int] = Counter()
        self.out: set[tuple[int, str]] = set()

    def teardown(self) -> None:
        try:
            assert {name: n for found in invariants.violations().values() for name, n in found.items() if n} == {}
        finally:
            transaction.set_rollback(True)
            self.scope.__exit__(None, None, None)

    # --- Actions and workers ------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 3))
    def act(self, number: int) -> None:
        member = self.members[number]
        self.orders += 1
        make_action(member, data={"order_id": f"order-{self.orders}"})
        match_actions()
        match_actions()

    @rule(at=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, at: int, limit: int) -> None:
        claimed = queue.claim(self.sites[at], limit)
        assert all(message.site_id == self.sites[at].pk for message in claimed)
        self.claimed += claimed

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        queue.give_back([self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))])

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def look_a_last_time(self, data: Any) -> None:
        """A worker, possibly one that slept since it claimed, goes on."""
        message = self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))
        for gone in last_look.begin(message.site_id, [message]):
            assert (gone.site_id, gone.to) not in self.out, "a call began after the opt-out"
            assert not stops.is_stopped(gone.site_id)
            assert Campaign.objects.get(pk=gone.campaign_id).state == Campaign.State.LIVE
            assert Site.objects.get(pk=gone.site_id).state == Site.State.LIVE
            self.may_leave.append(gone)

    @precondition(lambda self: self.may_leave)
    @rule(data=st.data(), end=st.sampled_from(sorted(_ENDS)))
    def call(self, data: Any, end: str) -> None:
        message = self.may_leave.pop(data.draw(st.integers(0, len(self.may_leave) - 1)))
        accepted, heard = _ENDS[end]
        self.book[message.pk] += accepted
        answer = heard if isinstance(heard, Answer) else None
        error = heard if isinstance(heard, VendorError) else None
        self.ended.append(Call(message, timezone.now(), answer, error))
        if error is not None:
            breakers.record_failure(message.site, LEGACY, error)
        elif answer is not None:
            breakers.record_success(message.site, LEGACY)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def write_down(self, data: Any) -> None:
        call = self.ended.pop(data.draw(st.integers(0, len(self.ended) - 1)))
        outcomes.record([call])
        Message.objects.filter(pk=call.message.pk, state=State.QUEUED).update(due_at=Now())

    @rule(dies=st.booleans())
    def leases_run_out(self, dies: bool) -> None:
        """Every worker sleeps beyond its lease; those that die never wake up."""
        Message.objects.filter(lease_until__isnull=False).update(lease_until=Now() - timedelta(seconds=1))
        if dies:
            self.claimed, self.may_leave, self.ended = [], [], []

    @rule()
    def sweep(self) -> None:
        queue.sweep()

    @rule()
    def look_around(self) -> None:
        queue.hold_behind_breakers()
        queue.release()

    @rule(at=st.integers(0, 1))
    def probe(self, at: int) -> None:
        Breaker.objects.update(probe_at=timezone.now())
        if breakers.may_probe(self.sites[at], LEGACY, timezone.now()):
            self.claimed += queue.take_probe(self.sites[at], LEGACY)

    # --- The world ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.book - self.spoken)
    @rule(data=st.data(), times=st.integers(1, 2))
    def vendor_speaks_of_a_text(self, data: Any, times: int) -> None:
        pk = data.draw(st.sampled_from(sorted(self.book - self.spoken)))
        self.spoken[pk] += 1
        message = Message.objects.get(pk=pk)
        body = _event("sms.sent", message.to, message={"id": self.spoken[pk], "text": f"Brand: {message.body}"})
        for _ in range(times):
            webhooks.receive(message.site, body)

    @rule()
    def work_off_webhooks(self) -> None:
        webhooks.process_webhooks()

    @rule(number=st.integers(0, 3), by_webhook=st.booleans())
    def opt_out(self, number: int, by_webhook: bool) -> None:
        member = self.members[number]
        if by_webhook:
            webhooks.receive(member.site, _event("sms.unsubscribed", member.phone))
        else:
            consent.opt_out(member.site, member.phone, by=self.user)
        self.out.add((member.site_id, member.phone))

    @rule(number=st.integers(0, 3))
    def subscribe_again(self, number: int) -> None:
        member = self.members[number]
        webhooks.receive(member.site, _event("sms.subscribed", member.phone))
        if consent.state_of(member.site, member.phone) == Consent.State.SUBSCRIBED:
            self.out.discard((member.site_id, member.phone))

    @rule(at=st.integers(0, 1), state=st.sampled_from([Site.State.LIVE, Site.State.PAUSED]))
    def pause_or_resume_site(self, at: int, state: str) -> None:
        Site.objects.filter(pk=self.sites[at].pk).update(state=state)

    @rule(at=st.integers(0, 1), state=st.sampled_from([Campaign.State.LIVE, Campaign.State.PAUSED]))
    def pause_or_resume_campaign(self, at: int, state: str) -> None:
        Campaign.objects.filter(site=self.sites[at]).update(state=state)

    @rule(at=st.sampled_from([0, 1, None]), begin=st.booleans())
    def stop_or_go_on(self, at: int | None, begin: bool) -> None:
        site = None if at is None else self.sites[at]
        if begin:
            stops.stop(site, by=self.user)
        else:
            stops.end(site, by=self.user)

    @rule()
    def what_waits_grows_old(self) -> None:
        Message.objects.filter(state=State.HELD).update(expires_at=Now() - timedelta(seconds=1))

    # --- A person decides ---------------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 1))
    def send_again(self, at: int) -> None:
        messages = list(Message.objects.filter(site=self.sites[at], state__in=[State.UNKNOWN, State.REFUSED]))
        assert decisions.send_again(messages, by=self.user) == len(messages)
        self.ordered.update(message.pk for message in messages)

    @rule(at=st.integers(0, 1))
    def treat_as_sent(self, at: int) -> None:
        decisions.treat_as_sent(list(Message.objects.filter(site=self.sites[at])), by=self.user)

    @rule(at=st.integers(0, 1))
    def cancel(self, at: int) -> None:
        decisions.cancel(list(Message.objects.filter(site=self.sites[at])), by=self.user)

    # --- What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_texted_twice_unless_somebody_ordered_it(self) -> None:
        for pk, times in self.book.items():
            assert times <= 1 + self.ordered[pk]

    @invariant()
    def messages_tell_the_truth(self) -> None:
        outcomes_of: dict[int, list[str]] = {}
        for pk, outcome in SendAttempt.objects.order_by("number").values_list("message", "outcome"):
            outcomes_of.setdefault(pk, []).append(outcome)
        for message in Message.objects.all():
            attempts = outcomes_of.get(message.pk, [])
            if self.book[message.pk] and not self.ordered[message.pk]:
                assert message.state in (State.SENDING, State.ACCEPTED, State.UNKNOWN), message.state
            if message.state == State.ACCEPTED and message.reason != "RESOLVED_AS_SENT":
                assert self.book[message.pk], "called sent, and it was not"
            if message.state == State.UNKNOWN:
                assert attempts[-1] == "UNKNOWN"
            assert attempts.count("OPEN") == (message.state == State.SENDING)
            assert message.attempt_count == len(attempts)
            assert (message.lease_until is None) == (message.state not in (State.CLAIMED, State.SENDING))


def _event(kind: str, phone: str, **fields: Any) -> bytes:
    event = {"type": kind, "timestamp": int(timezone.now().timestamp() * 1000), "subscriber": {"phone": phone}}
    return json.dumps({**event, **fields}).encode()


def test_the_engine_under_everything_at_once() -> None:
    run_state_machine_as_test(
        Engine,
        settings=settings(
            max_examples=examples(40),
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
