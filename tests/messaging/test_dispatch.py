from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from attentive_integration import rate_limit
from attentive_integration.attentive import AttentiveClient
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import breakers, stops, tokens
from loyalty.models import AccessToken, Breaker, Consent, Site
from messaging import outcomes, queue
from messaging.dispatch import send_due
from messaging.models import Campaign, Message, SendAttempt
from messaging.reasons import Code
from messaging.triggers import match_actions
from tests.factories import make_action, make_campaign, make_consent, make_member, make_message, make_token

from .world import World, state_of

pytestmark = pytest.mark.django_db
State = Message.State


def open_probe() -> None:
    Breaker.objects.update(probe_at=timezone.now() - timedelta(seconds=1))


def test_an_action_becomes_one_text_however_often_the_tick_runs(world: World) -> None:
    campaign = make_campaign(world.site, "Thanks {{ first_name }}, you have {{ points }} points.")
    ada = world.subscriber(first_name="Ada")
    make_action(ada, action_type=campaign.action_type, points=120)
    for _ in range(3):
        match_actions()
        send_due(seconds=10)
    assert world.texts() == [(ada.phone, "Thanks Ada, you have 120 points.")]
    message = Message.objects.get()
    assert (message.state, message.reason, message.attempt_count) == (State.ACCEPTED, "", 1)
    assert message.sent_at is not None
    attempt = SendAttempt.objects.get()
    assert (attempt.outcome, attempt.http_status, attempt.number) == ("ACCEPTED", 200, 1)
    assert attempt.called_at is not None and attempt.ended_at is not None
    assert attempt.started_at <= attempt.called_at <= attempt.ended_at


def test_sites_are_sent_with_their_own_tokens(sandbox: SandboxProcess) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    make_message(ours.subscriber(), body="ours")
    make_message(theirs.subscriber(), body="theirs")
    send_due(seconds=10)
    assert [body for _, body in ours.texts()] == ["ours"]
    assert [body for _, body in theirs.texts()] == ["theirs"]


@pytest.mark.parametrize(
    ("fault", "state", "reason", "outcome", "accepted"),
    [
        ({"kind": "status", "status": 400}, "REFUSED", "REFUSED", "REFUSED", 0),
        ({"kind": "status", "status": 401}, "HELD", "TOKEN_REFUSED", "RETRY", 0),
        ({"kind": "status", "status": 403}, "HELD", "TOKEN_REFUSED", "RETRY", 0),
        ({"kind": "status", "status": 404}, "HELD", "TOKEN_REFUSED", "RETRY", 0),
        ({"kind": "status", "status": 302}, "HELD", "TOKEN_REFUSED", "RETRY", 0),
        ({"kind": "status", "status": 429, "retry_after": "600"}, "QUEUED", "RATE_LIMITED", "RETRY", 0),
        ({"kind": "status", "status": 503, "retry_after": "600"}, "QUEUED", "RETRYING", "RETRY", 0),
        ({"kind": "status", "status": 500}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 0),
        ({"kind": "status_after", "status": 502}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
        ({"kind": "status_after", "status": 504}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
        ({"kind": "reset_after"}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
        ({"kind": "close_after"}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
        ({"kind": "reset_before"}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 0),
        ({"kind": "garbage"}, "ACCEPTED", "", "ACCEPTED", 1),
        ({"kind": "cut"}, "ACCEPTED", "", "ACCEPTED", 1),
        ({"kind": "delay_after", "seconds": 5}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
        ({"kind": "drip"}, "UNKNOWN", "NO_ANSWER", "UNKNOWN", 1),
    ],
)
def test_what_came_back_decides_what_becomes_of_the_message(
    world: World, settings: Any, fault: dict[str, Any], state: str, reason: str, outcome: str, accepted: int
) -> None:
    settings.VENDOR_DEADLINE_SECONDS = 3.0
    message = make_message(world.subscriber())
    world.sandbox.add_fault("/1/messages", fault.pop("kind"), **fault)
    send_due(seconds=10)
    assert state_of(message) == (state, reason)
    assert (message.sent_at is not None) == (state in ("ACCEPTED", "UNKNOWN"))
    assert message.lease_until is None
    assert SendAttempt.objects.get().outcome == outcome
    assert len(world.texts()) == accepted


def test_a_token_that_sending_does_not_need_may_be_unreadable(world: World) -> None:
    message = make_message(world.subscriber())
    make_token(world.site, "WEBHOOK_SIGNING", "signing-placeholder")
    AccessToken.objects.filter(kind="WEBHOOK_SIGNING").update(sealed_secret="cannot be opened")
    send_due(seconds=10)
    assert state_of(message) == ("ACCEPTED", "")


def test_what_is_tried_again_is_sent_once(world: World) -> None:
    message = make_message(world.subscriber())
    world.sandbox.add_fault("/1/messages", "status", times=2, status=503)
    send_due(seconds=30)
    assert state_of(message) == ("ACCEPTED", "")
    assert message.attempt_count == 3
    assert len(world.texts()) == 1


def test_what_is_unknown_is_never_tried_again(world: World) -> None:
    message = make_message(world.subscriber())
    world.sandbox.add_fault("/1/messages", "reset_before")
    send_due(seconds=5)
    send_due(seconds=5)
    assert state_of(message) == ("UNKNOWN", "NO_ANSWER")
    assert world.texts() == []


@pytest.mark.parametrize(
    ("consent_state", "reason"),
    [
        (None, "NOT_SUBSCRIBED"),
        ("UNKNOWN", "NOT_SUBSCRIBED"),
        ("TO_ASK", "NOT_SUBSCRIBED"),
        ("REQUESTED", "NOT_SUBSCRIBED"),
        ("UNSUBSCRIBED", "OPTED_OUT"),
        ("BLOCKED", "BLOCKED"),
    ],
)
def test_only_subscribers_are_texted(world: World, consent_state: str | None, reason: str) -> None:
    member = make_member(world.site)
    world.sandbox.add_subscribers(world.company, [member.phone])
    if consent_state:
        make_consent(member, consent_state)
    message = make_message(member)
    send_due(seconds=5)
    assert state_of(message) == ("SKIPPED", reason)
    assert world.texts() == []
    assert not SendAttempt.objects.exists()


def test_consent_at_another_site_is_no_consent(sandbox: SandboxProcess) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    phone = theirs.subscriber().phone
    message = make_message(make_member(ours.site, phone=phone))
    send_due(seconds=5)
    assert state_of(message) == ("SKIPPED", "NOT_SUBSCRIBED")


def test_a_text_whose_slot_has_passed_waits_for_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make_message(world.subscriber())
    is_late, at_first = rate_limit.Reservation.is_late, iter([True])
    monkeypatch.setattr(
        rate_limit.Reservation, "is_late", lambda self, slot: next(at_first, False) or is_late(self, slot)
    )
    send_due(seconds=10)
    attempts = list(SendAttempt.objects.order_by("number"))
    assert (attempts[0].outcome, attempts[0].cause, attempts[0].called_at) == ("RETRY", "LATE_SLOT", None)
    assert (attempts[-1].outcome, attempts[-1].cause) == ("ACCEPTED", "")
    assert len(world.texts()) == 1


def test_a_vendor_that_wants_a_pause_gets_it_from_every_process(world: World) -> None:
    make_message(world.subscriber())
    world.sandbox.add_fault("/1/messages", "status", status=429, retry_after="600")
    send_due(seconds=5)
    assert rate_limit.available(*tokens.pace(f"legacy-{world.company}")) <= 0


def test_test_mode_texts_guests_only(sandbox: SandboxProcess) -> None:
    world = World(sandbox, state=Site.State.TEST)
    guest, other = world.subscriber(), world.subscriber()
    Site.objects.filter(pk=world.site.pk).update(guest_phones=[guest.phone])
    to_guest, to_other = make_message(guest), make_message(other)
    send_due(seconds=5)
    assert state_of(to_guest) == ("ACCEPTED", "")
    assert state_of(to_other) == ("SKIPPED", "TEST_MODE")
    Site.objects.filter(pk=world.site.pk).update(state=Site.State.LIVE)
    send_due(seconds=5)
    assert state_of(to_other) == ("SKIPPED", "TEST_MODE")


def test_a_pause_holds_and_its_end_lets_go(world: World) -> None:
    campaign = make_campaign(world.site)
    messages = [make_message(world.subscriber(), campaign) for _ in range(2)]
    Campaign.objects.update(state=Campaign.State.PAUSED)
    send_due(seconds=5)
    assert [state_of(m) for m in messages] == [("HELD", "CAMPAIGN_PAUSED")] * 2
    Campaign.objects.update(state=Campaign.State.LIVE)
    Site.objects.filter(pk=world.site.pk).update(state=Site.State.PAUSED)
    send_due(seconds=5)
    assert {state_of(m)[0] for m in messages} == {"HELD"}
    Site.objects.filter(pk=world.site.pk).update(state=Site.State.LIVE)
    send_due(seconds=5)
    assert [state_of(m) for m in messages] == [("ACCEPTED", "")] * 2


def test_what_is_held_too_long_expires(world: World) -> None:
    message = make_message(world.subscriber(), state=State.HELD, reason="TOKEN_MISSING", expires_at=timezone.now())
    send_due(seconds=5)
    assert state_of(message) == ("EXPIRED", "TOKEN_MISSING")


def test_quiet_hours_put_off_or_cancel(sandbox: SandboxProcess) -> None:
    now = timezone.now()
    quiet = {"start": (now - timedelta(hours=2)).strftime("%H:%M"), "end": (now + timedelta(hours=2)).strftime("%H:%M")}
    world = World(sandbox, quiet_hours=quiet, time_zone="UTC", default_country="GB")
    later = make_message(world.subscriber(phone="+447400555010", time_zone="UTC"))
    policy = Campaign.QuietPolicy.CANCEL
    never = make_message(
        world.subscriber(phone="+447400555011", time_zone="UTC"), make_campaign(world.site, quiet_policy=policy)
    )
    send_due(seconds=5)
    assert state_of(later) == ("QUEUED", "QUIET_HOURS")
    assert timedelta(hours=1, minutes=50) < later.due_at - now < timedelta(hours=2, minutes=1)
    assert state_of(never) == ("SKIPPED", "QUIET_HOURS")
    assert world.texts() == []


def test_caps_count_over_all_campaigns_of_the_site(sandbox: SandboxProcess) -> None:
    world = World(sandbox, caps=[{"hours": 8, "messages": 1}, {"hours": 24, "messages": 2}])
    ada = world.subscriber()
    first, second = make_message(ada), make_message(ada)
    send_due(seconds=5)
    assert sorted([state_of(first), state_of(second)]) == [("ACCEPTED", ""), ("SKIPPED", "FREQUENCY_CAP")]
    Message.objects.filter(state=State.ACCEPTED).update(sent_at=timezone.now() - timedelta(hours=9))
    third = make_message(ada)
    send_due(seconds=5)
    assert state_of(third) == ("ACCEPTED", "")
    Message.objects.filter(pk=third.pk).update(sent_at=timezone.now() - timedelta(hours=9))
    fourth = make_message(ada)
    send_due(seconds=5)
    assert state_of(fourth) == ("SKIPPED", "FREQUENCY_CAP")


def test_a_refused_call_does_not_count_towards_the_cap(sandbox: SandboxProcess) -> None:
    world = World(sandbox, caps=[{"hours": 8, "messages": 1}])
    ada = world.subscriber()
    make_message(ada)
    world.sandbox.add_fault("/1/messages", "status", status=400)
    send_due(seconds=5)
    again = make_message(ada)
    send_due(seconds=5)
    assert state_of(again) == ("ACCEPTED", "")


def test_without_a_token_texts_wait_for_it(world: World) -> None:
    tokens.revoke(world.site, AccessToken.Kind.ATTENTIVE_LEGACY)
    messages = [make_message(world.subscriber()) for _ in range(3)]
    send_due(seconds=5)
    assert [state_of(m) for m in messages] == [("HELD", "TOKEN_MISSING")] * 3
    tokens.set_token(world.site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{world.company}")
    send_due(seconds=5)
    assert [state_of(m) for m in messages] == [("ACCEPTED", "")] * 3


def test_a_refused_token_holds_its_site_and_no_other(sandbox: SandboxProcess) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    sandbox.configure_company(ours.company, refused=["legacy"])
    held = [make_message(ours.subscriber()) for _ in range(40)]
    sent = make_message(theirs.subscriber())
    send_due(seconds=5)
    assert {state_of(m) for m in held} == {("HELD", "TOKEN_REFUSED")}
    assert state_of(sent) == ("ACCEPTED", "")
    assert [breaker.site for breaker in breakers.take_alerts()] == [ours.site]
    assert breakers.take_alerts() == []
    attempts = SendAttempt.objects.filter(message__site=ours.site).exclude(cause=outcomes.LATE_SLOT)
    calls = attempts.count()
    assert calls < 30, "a refused token was tried on and on"
    # Still refused: one probe, and the rest waits on.
    open_probe()
    send_due(seconds=1)
    assert attempts.count() == calls + 1
    assert {state_of(m) for m in held} == {("HELD", "TOKEN_REFUSED")}
    sandbox.configure_company(ours.company, refused=[])
    open_probe()
    send_due(seconds=10)
    assert {state_of(m) for m in held} == {("ACCEPTED", "")}
    assert len(ours.texts()) == 40


def test_people_whom_attentive_refuses_are_no_outage(world: World) -> None:
    """A refusal is an answer: the vendor is there, and the token is good."""
    strangers = [make_member(world.site) for _ in range(breakers.FAILURES_IN_A_ROW + 5)]
    for stranger in strangers:
        make_consent(stranger)
        make_message(stranger)
    send_due(seconds=10)
    assert Message.objects.filter(state=State.REFUSED).count() == len(strangers)
    assert breakers.opened() == []
    sent = make_message(world.subscriber())
    send_due(seconds=10)
    assert state_of(sent) == ("ACCEPTED", "")


def test_a_refused_person_proves_a_token_that_was_held(world: World) -> None:
    world.sandbox.configure_company(world.company, refused=["legacy"])
    stranger = make_member(world.site)
    make_consent(stranger)
    make_message(stranger)
    send_due(seconds=5)
    held = make_message(world.subscriber())
    world.sandbox.configure_company(world.company, refused=[])
    open_probe()
    send_due(seconds=10)
    assert state_of(held) == ("ACCEPTED", "")


def test_an_outage_holds_and_heals_by_itself(world: World) -> None:
    world.sandbox.add_fault("/1/messages", "status", times=20, status=503)
    messages = [make_message(world.subscriber()) for _ in range(30)]
    send_due(seconds=40)
    assert {state_of(m) for m in messages} == {("ACCEPTED", "")}
    assert len(world.texts()) == 30


def test_stopping_everything_holds_until_somebody_resumes(sandbox: SandboxProcess) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    stops.stop(ours.site, by=None)
    held, sent = make_message(ours.subscriber()), make_message(theirs.subscriber())
    send_due(seconds=5)
    assert state_of(held) == ("HELD", "STOPPED")
    assert state_of(sent) == ("ACCEPTED", "")
    stops.end(ours.site, by=None)
    stops.stop(None, by=None)
    send_due(seconds=5)
    assert state_of(held) == ("HELD", "STOPPED")
    stops.end(None, by=None)
    send_due(seconds=5)
    assert state_of(held) == ("ACCEPTED", "")


def test_a_stop_may_end_with_its_messages_expired(world: World) -> None:
    stops.stop(world.site, by=None)
    message = make_message(world.subscriber())
    send_due(seconds=5)
    assert queue.expire_stopped(world.site) == 1
    stops.end(world.site, by=None)
    send_due(seconds=5)
    assert state_of(message) == ("EXPIRED", "STOPPED")


def test_the_event_route_reports_what_happened_with_the_app_key(world: World) -> None:
    campaign = make_campaign(world.site, "", route=Campaign.Route.EVENT, event_type="annex_loy_point_accrual")
    ada = world.subscriber(first_name="Ada", tier="Gold")
    make_action(ada, action_type=campaign.action_type, points=120, points_delta=20, data={"order_id": "o-9"})
    match_actions()
    send_due(seconds=5)
    (event,) = world.events()
    message = Message.objects.get()
    assert message.state == State.ACCEPTED
    assert event["phone"] == ada.phone
    assert event["body"]["type"] == "annex_loy_point_accrual"
    assert event["body"]["externalEventId"] == str(message.external_event_id)
    assert event["body"]["properties"] == {
        "order_id": "o-9", "action": "109", "points": 120, "points_delta": 20, "tier": "Gold", "first_name": "Ada",
        "last_name": "Example",
    }  # fmt: skip
    assert world.texts() == []


@pytest.mark.parametrize(("refused", "stops"), [(1, False), (breakers.FAILURES_IN_A_ROW, True)])
def test_a_404_about_one_person_holds_nobody_else_and_many_in_a_row_do(world: World, refused: int, stops: bool) -> None:
    campaign = make_campaign(world.site, "", route=Campaign.Route.EVENT, event_type="annex_loy_point_accrual")
    unknown = [make_message(world.subscriber(), campaign) for _ in range(refused)]
    world.sandbox.add_fault("/v1/events/custom", "status", times=None, status=404)
    send_due(seconds=1)
    assert {state_of(message)[0] for message in unknown} == {"REFUSED"}
    assert breakers.is_open(world.site.pk, "ATTENTIVE_APP") == stops
    world.sandbox.clear_faults()
    other = make_message(world.subscriber(), campaign)
    send_due(seconds=1)
    assert state_of(other)[0] == ("HELD" if stops else "ACCEPTED")


def test_the_path_of_the_integration_document_can_be_chosen(sandbox: SandboxProcess) -> None:
    world = World(sandbox, message_path=Site.MessagePath.SUBSCRIPTIONS)
    message = make_message(world.subscriber())
    send_due(seconds=5)
    assert state_of(message) == ("ACCEPTED", "")
    assert [r["path"] for r in sandbox.ledger("MESSAGE") if r["company"] == world.company] == [
        "/v1/subscriptions/messages"
    ]


def test_a_member_with_a_new_phone_is_not_texted_on_the_old_one(world: World) -> None:
    old = world.subscriber()
    message = make_message(old)
    old.replaced_by = world.subscriber()
    old.save()
    send_due(seconds=5)
    assert state_of(message) == ("SKIPPED", "REPLACED")


def test_a_canary_waits_after_its_first_recipients(world: World) -> None:
    campaign = make_campaign(world.site, canary_size=3)
    messages = [make_message(world.subscriber(), campaign) for _ in range(8)]
    send_due(seconds=5)
    assert sorted(state_of(m) for m in messages) == [("ACCEPTED", "")] * 3 + [("HELD", "CANARY")] * 5
    Campaign.objects.update(canary_passed_at=timezone.now())
    send_due(seconds=5)
    assert {state_of(m) for m in messages} == {("ACCEPTED", "")}


def test_a_hundred_texts_at_one_site_keep_its_pace(world: World, settings: Any) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "DEFAULT": 50}
    # A little above our pace, so that a busy machine's late starts are forgiven, and no pace at all is not.
    world.sandbox.set(limits={"DEFAULT": 60})
    campaign = make_campaign(world.site)
    for _ in range(100):
        make_message(world.subscriber(), campaign)
    try:
        send_due(seconds=20)
    finally:
        world.sandbox.set(limits={"DEFAULT": 150})
    assert Message.objects.filter(state=State.ACCEPTED).count() == 100
    assert not SendAttempt.objects.filter(http_status=429).exists()


def test_slots_are_not_spent_on_people_who_may_not_be_texted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = make_campaign(world.site)
    for _ in range(150):
        make_message(make_member(world.site), campaign)
    members = [world.subscriber() for _ in range(10)]
    for member in members:
        make_message(member, campaign)
    reserve, taken = rate_limit.reserve, []

    def counting(*args: Any, **options: Any) -> rate_limit.Reservation | None:
        reservation = reserve(*args, **options)
        taken.append(len(reservation.slots) if reservation else 0)
        return reservation

    monkeypatch.setattr(rate_limit, "reserve", counting)
    send_due(seconds=30)
    assert sorted(to for to, _body in world.texts()) == sorted(member.phone for member in members)
    assert Message.objects.filter(state=State.SKIPPED, reason=Code.NOT_SUBSCRIBED).count() == 150
    late = SendAttempt.objects.filter(cause=outcomes.LATE_SLOT).count()
    assert sum(taken) - late < 50


def test_a_call_that_breaks_off_in_our_own_code_leaves_its_outcome_open(
    sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    broken, fine = make_message(ours.subscriber()), make_message(theirs.subscriber())
    send = AttentiveClient.messages

    def stumble(client: AttentiveClient, *, to: str, **fields: Any) -> Any:
        if to == broken.to:
            raise RuntimeError
        return send(client, to=to, **fields)

    monkeypatch.setattr(AttentiveClient, "messages", stumble)
    send_due(seconds=10)
    assert (state_of(broken)[0], state_of(fine)[0]) == (State.UNKNOWN, State.ACCEPTED)


def test_consent_states_that_allow_a_text_are_one(world: World) -> None:
    """SUBSCRIBED alone may be texted; a new state must be thought through here."""
    assert len(Consent.State.values) == 7
