import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from attentive_integration import rate_limit
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent, stops, subscriptions, tokens
from loyalty.models import AccessToken, AuditEntry, Breaker, Consent, ConsentEvent, Member, Site
from messaging import dispatch, invariants
from tests.concurrency import meanwhile
from tests.factories import make_consent, make_member, make_message, make_sign_up_source
from tests.messaging.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(sandbox: SandboxProcess) -> World:
    return ready(World(sandbox))


def ready(world: World) -> World:
    make_sign_up_source(world.site)
    return world


def waiting(world: World, **fields: Any) -> Member:
    member = make_member(world.site, **fields)
    make_consent(member, Consent.State.TO_ASK)
    return member


def state_of(member: Member) -> str:
    return consent.state_of(member.site, member.phone)


def asked(world: World) -> list[str]:
    return [record["phone"] for record in world.sandbox.ledger("SUBSCRIBE") if record["company"] == world.company]


def test_whoever_may_be_texted_already_is_not_asked(world: World) -> None:
    known, new = waiting(world), waiting(world)
    world.sandbox.add_subscribers(world.company, [known.phone])
    counts = subscriptions.subscribe_due(world.site)
    assert asked(world) == [new.phone]
    assert (counts["already_subscribed"], counts["requested"], counts["left"]) == (1, 1, 0)
    # Nobody has to answer Y at this company, so eligibility confirms at once.
    assert (state_of(known), state_of(new)) == ("SUBSCRIBED", "SUBSCRIBED")
    assert world.sandbox.texts(world.company, known.phone) == []


def test_with_double_opt_in_a_person_is_asked_once_and_waited_for(world: World) -> None:
    world.sandbox.configure_company(world.company, double_opt_in=True)
    member = waiting(world)
    for _ in range(3):
        subscriptions.subscribe_due(world.site)
    assert asked(world) == [member.phone]
    assert state_of(member) == "REQUESTED"
    world.sandbox.reply(world.company, member.phone, "Y")
    Consent.objects.update(checked_at=timezone.now() - timedelta(hours=2))
    subscriptions.subscribe_due(world.site)
    assert state_of(member) == "SUBSCRIBED"


@pytest.mark.parametrize("kind", ["reset_after", "close_after", "status_after"])
def test_an_unclear_answer_is_cleared_up_by_eligibility_and_not_by_asking_again(world: World, kind: str) -> None:
    member = waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", kind, method="POST")
    counts = subscriptions.subscribe_due(world.site)
    assert counts["unclear"] == 1
    assert asked(world) == [member.phone]
    assert state_of(member) == "SUBSCRIBED"


def test_a_busy_vendor_is_asked_again_later(world: World) -> None:
    member = waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "status", times=2, status=429, retry_after="1", method="POST")
    world.sandbox.add_fault("/v1/subscriptions", "status", times=1, status=503, method="GET")
    counts = subscriptions.subscribe_due(world.site)
    assert counts["retried"] == 3
    assert asked(world) == [member.phone]
    assert state_of(member) == "SUBSCRIBED"


def test_a_refusal_takes_the_row_out_with_its_sentence(world: World) -> None:
    member = waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "status", status=400, method="POST")
    counts = subscriptions.subscribe_due(world.site)
    assert (counts["refused"], counts["left"]) == (1, 0)
    row = Consent.objects.get(address=member.phone)
    assert row.state == "UNKNOWN"
    assert "sign-up source" in row.detail


def test_a_refused_key_stops_the_queue_and_loses_nobody(world: World) -> None:
    members = [waiting(world) for _ in range(5)]
    world.sandbox.configure_company(world.company, refused=["app"])
    counts = subscriptions.subscribe_due(world.site)
    assert counts["left"] == 5
    assert Breaker.objects.get().token_kind == "ATTENTIVE_APP"
    assert asked(world) == []
    world.sandbox.configure_company(world.company, refused=[])
    tokens.set_token(world.site, AccessToken.Kind.ATTENTIVE_APP, f"app-{world.company}")
    Consent.objects.update(due_at=None)
    assert subscriptions.subscribe_due(world.site)["left"] == 0
    assert sorted(asked(world)) == sorted(member.phone for member in members)


def test_an_opt_out_while_waiting_is_obeyed(world: World) -> None:
    member = waiting(world)
    consent.opt_out(world.site, member.phone)
    subscriptions.subscribe_due(world.site)
    assert asked(world) == []
    assert state_of(member) == "UNSUBSCRIBED"


@pytest.mark.django_db(transaction=True)
def test_an_opt_out_between_eligibility_and_asking_is_obeyed(world: World) -> None:
    member = waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "delay", seconds=1.5, method="GET")
    asking = meanwhile(lambda: subscriptions.subscribe_due(world.site), seconds=0.8)
    consent.opt_out(world.site, member.phone)
    asking.result()
    assert asked(world) == []
    assert state_of(member) == "UNSUBSCRIBED"


def test_a_vendor_that_wants_a_pause_gets_it_from_every_process(world: World) -> None:
    waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "status", status=429, retry_after="600", method="POST")
    assert subscriptions.subscribe_due(world.site)["retried"] == 1
    assert rate_limit.available(*tokens.pace(f"app-{world.company}", "SUBSCRIBE")) <= 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_long_pause_ends_the_asking_of_one_site_in_time_and_says_so(sandbox: SandboxProcess, method: str) -> None:
    """Also where one person after the other waits, and others have not answered yet."""
    ours, theirs = ready(World(sandbox)), ready(World(sandbox))
    make_consent(make_member(ours.site), Consent.State.REQUESTED)
    for _ in range(120):
        waiting(ours)
    other = waiting(theirs)
    sandbox.add_fault("/v1/subscriptions", "status", status=429, retry_after="600", method=method, company=ours.company)
    began, said = time.monotonic(), StringIO()
    call_command("subscribe_members", "--site", ours.site.site_id, stderr=said)
    assert "asked for a pause" in said.getvalue()
    assert Consent.objects.filter(site=ours.site, state="TO_ASK").count() >= 110
    with pytest.raises(subscriptions.CannotSubscribe, match="pause"):
        subscriptions.subscribe_due(ours.site)
    assert time.monotonic() - began < 6
    assert Consent.objects.filter(site=ours.site, state="TO_ASK", due_at__isnull=True, lease_until=None).count() > 50
    subscriptions.subscribe_due(theirs.site)
    assert state_of(other) == "SUBSCRIBED"


def test_the_other_site_is_not_touched(sandbox: SandboxProcess) -> None:
    ours, theirs = ready(World(sandbox)), ready(World(sandbox))
    mine, other = waiting(ours), waiting(theirs)
    subscriptions.subscribe_due(ours.site)
    assert (state_of(mine), state_of(other)) == ("SUBSCRIBED", "TO_ASK")
    assert asked(theirs) == []
    assert subscriptions.sites_with_waiting_members() == [theirs.site.pk]


def test_test_mode_asks_guests_only(sandbox: SandboxProcess) -> None:
    world = ready(World(sandbox, state=Site.State.TEST))
    guest, other = waiting(world), waiting(world)
    Site.objects.filter(pk=world.site.pk).update(guest_phones=[guest.phone])
    world.site.refresh_from_db()
    subscriptions.subscribe_due(world.site)
    assert asked(world) == [guest.phone]
    assert state_of(other) == "TO_ASK"


def test_the_e_mail_goes_along_only_where_the_site_says_so(sandbox: SandboxProcess) -> None:
    silent, open_ = ready(World(sandbox)), ready(World(sandbox, subscribe_email=True))
    for world in (silent, open_):
        waiting(world, email="ada@example.com")
        subscriptions.subscribe_due(world.site)
    emails = {
        record["company"]: record["body"]["user"].get("email")
        for record in sandbox.ledger("SUBSCRIBE")
        if record["company"] in (silent.company, open_.company)
    }
    assert emails == {silent.company: None, open_.company: "ada@example.com"}


def test_the_pace_of_the_vendor_is_kept(world: World) -> None:
    for _ in range(25):
        waiting(world)
    began = time.monotonic()
    counts = subscriptions.subscribe_due(world.site)
    assert counts["requested"] == 25
    assert counts["retried"] == 0
    assert time.monotonic() - began >= 24 / 10
    assert len(set(asked(world))) == len(asked(world)) == 25


def test_a_pause_or_a_stop_takes_effect_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(25):
        waiting(world)
    mark = subscriptions._mark_requested
    for forbid in (
        lambda: Site.objects.filter(pk=world.site.pk).update(state=Site.State.PAUSED),
        lambda: stops.stop(world.site, by=None),
        lambda: Site.objects.filter(pk=world.site.pk).update(asking_paused_at=timezone.now()),
    ):
        monkeypatch.setattr(subscriptions, "_mark_requested", lambda *row, forbid=forbid: (mark(*row), forbid())[0])
        before = len(asked(world))
        assert subscriptions.subscribe_due(world.site)["left"] > 0
        assert 0 < len(asked(world)) - before < 8
        Site.objects.filter(pk=world.site.pk).update(state=Site.State.LIVE)
        stops.end(world.site, by=None)
        world.site.refresh_from_db()
    assert not Consent.objects.filter(state="TO_ASK", lease_until__isnull=False).exists()


@pytest.mark.django_db(transaction=True)
def test_nobody_is_asked_who_was_looked_up_before_a_pause(world: World) -> None:
    member = waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "delay", seconds=1.5, method="GET")
    asking = meanwhile(lambda: subscriptions.subscribe_due(world.site), seconds=0.8)
    subscriptions.pause(Site.objects.get(pk=world.site.pk))
    asking.result()
    assert (asked(world), state_of(member)) == ([], "TO_ASK")


def test_the_queue_of_one_site_is_paused_alone(sandbox: SandboxProcess) -> None:
    ours, theirs = ready(World(sandbox)), ready(World(sandbox))
    mine, other, texted = waiting(ours), waiting(theirs), make_message(ours.subscriber())
    for _ in range(2):
        subscriptions.pause(ours.site)
    with pytest.raises(subscriptions.CannotSubscribe, match="paused"):
        subscriptions.subscribe_due(ours.site)
    assert subscriptions.sites_with_waiting_members() == [theirs.site.pk]
    subscriptions.subscribe_due(theirs.site)
    dispatch.send_due(seconds=10)
    texted.refresh_from_db()
    assert (state_of(mine), state_of(other), texted.state) == ("TO_ASK", "SUBSCRIBED", "ACCEPTED")
    for _ in range(2):
        subscriptions.resume(ours.site)
    subscriptions.subscribe_due(ours.site)
    assert state_of(mine) == "SUBSCRIBED"
    events = AuditEntry.objects.filter(site=ours.site).order_by("pk").values_list("event", flat=True)
    assert list(events) == ["asking.paused", "asking.resumed"]


@pytest.mark.parametrize("people", [8, 1])
def test_a_person_whose_slot_has_passed_is_asked_at_another(
    world: World, monkeypatch: pytest.MonkeyPatch, people: int
) -> None:
    members = [waiting(world) for _ in range(people)]
    mark, slow = subscriptions._mark_requested, iter([1.4])
    monkeypatch.setattr(subscriptions, "_mark_requested", lambda *row: (mark(*row), time.sleep(next(slow, 0)))[0])
    counts = subscriptions.subscribe_due(world.site)
    assert sorted(asked(world)) == sorted(member.phone for member in members)
    assert (counts["requested"], counts["left"]) == (people, 0)
    # Some were marked, and put back before they were asked.
    assert ConsentEvent.objects.filter(from_state="REQUESTED", to_state="TO_ASK").exists()


def test_a_site_that_is_not_ready_says_what_is_missing(sandbox: SandboxProcess) -> None:
    world = World(sandbox)
    waiting(world)
    with pytest.raises(subscriptions.CannotSubscribe, match="sign-up source ID"):
        subscriptions.subscribe_due(world.site)
    with pytest.raises(CommandError, match="sign-up source ID"):
        call_command("subscribe_members", "--site", world.site.site_id)
    with pytest.raises(CommandError, match="no site"):
        call_command("subscribe_members", "--site", "absent")
    ready(world)
    stops.stop(None, by=None)
    with pytest.raises(subscriptions.CannotSubscribe, match="stopped"):
        subscriptions.subscribe_due(world.site)
    for state, word in ((Site.State.DRAFT, "draft"), (Site.State.PAUSED, "paused")):
        world.site.state = state
        with pytest.raises(subscriptions.CannotSubscribe, match=word):
            subscriptions.subscribe_due(world.site)


def test_a_404_about_one_person_lets_the_others_be_asked(world: World) -> None:
    unknown, other = waiting(world), waiting(world)
    world.sandbox.add_fault("/v1/subscriptions", "status", status=404, method="POST")
    counts = subscriptions.subscribe_due(world.site)
    assert (counts["refused"], counts["requested"], counts["left"]) == (1, 1, 0)
    assert sorted([state_of(unknown), state_of(other)]) == ["SUBSCRIBED", "UNKNOWN"]
    assert not Breaker.objects.filter(opened_at__isnull=False).exists()


@pytest.mark.parametrize("status", [400, 404, 429, 503, 401])
def test_the_ledger_of_consent_follows_each_turn_of_a_request(world: World, status: int) -> None:
    member = make_member(world.site)
    consent.mark_to_ask(world.site, [member.phone])
    world.sandbox.add_fault("/v1/subscriptions", "status", times=1, status=status, retry_after="1", method="POST")
    subscriptions.subscribe_due(world.site)
    assert {name: n for names in invariants.violations().values() for name, n in names.items() if n} == {}


def test_a_probe_is_left_to_whoever_has_something_to_ask(world: World) -> None:
    """Sending looks for due probes each second; it may not use up the one that waiting members need."""
    member = waiting(world)
    world.sandbox.configure_company(world.company, refused=["app"])
    subscriptions.subscribe_due(world.site)
    world.sandbox.configure_company(world.company, refused=[])
    Consent.objects.update(due_at=None)
    Breaker.objects.update(probe_at=timezone.now() - timedelta(seconds=1))
    dispatch.send_due(seconds=1)
    subscriptions.subscribe_due(world.site)
    assert state_of(member) == "SUBSCRIBED"


def test_a_request_that_waits_for_its_answer_probes_too(world: World) -> None:
    world.sandbox.configure_company(world.company, double_opt_in=True)
    member = waiting(world)
    subscriptions.subscribe_due(world.site)
    Breaker.objects.create(
        site=world.site, token_kind="ATTENTIVE_APP", opened_at=timezone.now(), probe_at=timezone.now(), failures=1
    )
    world.sandbox.reply(world.company, member.phone, "Y")
    Consent.objects.update(checked_at=timezone.now() - timedelta(hours=2))
    subscriptions.subscribe_due(world.site)
    assert state_of(member) == "SUBSCRIBED"
    assert not Breaker.objects.filter(opened_at__isnull=False).exists()


@pytest.mark.parametrize("state", ["TO_ASK", "REQUESTED"])
def test_behind_an_open_breaker_one_person_probes(world: World, state: str) -> None:
    for _ in range(3):
        make_consent(make_member(world.site), state)
    world.sandbox.add_fault("/v1/subscriptions", "status", times=None, status=503)
    now = timezone.now()
    Breaker.objects.create(site=world.site, token_kind="ATTENTIVE_APP", opened_at=now, probe_at=now, failures=10)
    subscriptions.subscribe_due(world.site, deadline=time.monotonic() + 1)
    (fault,) = world.sandbox.state()["faults"]
    assert fault["fired"] == 1
