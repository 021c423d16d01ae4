"""A test text is a real one: to a guest phone alone, once, and known to the comparison with the ledger."""

from typing import Any

import pytest

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent, stops
from loyalty.guest_tests import sent_test_texts
from loyalty.models import AuditEntry, Site
from messaging.campaigns import CampaignRefused
from messaging.guest_texts import send_guest_text
from messaging.models import Campaign, Message
from tests.factories import make_campaign, make_user

from .world import World

pytestmark = pytest.mark.django_db
GUEST = "+17705550177"


@pytest.fixture
def world(sandbox: SandboxProcess) -> World:
    made = World(sandbox, guest_phones=[GUEST], state=Site.State.TEST)
    sandbox.add_subscribers(made.company, [GUEST])
    return made


def test_a_guest_gets_the_text_and_the_trail_says_who_sent_it(world: World) -> None:
    user = make_user(world.site)
    send_guest_text(make_campaign(world.site), "Hello guest", GUEST, by=user)
    assert world.texts() == [(GUEST, "Hello guest")]
    entry = AuditEntry.objects.get(event="campaign.test_text")
    assert (entry.user, entry.site) == (user, world.site)
    assert GUEST not in f"{entry.target} {entry.new}"
    assert sent_test_texts() == {("+1 ••• ••• 0177", "Hello guest")}
    assert not Message.objects.exists()


def test_a_double_click_sends_one_text(world: World) -> None:
    campaign = make_campaign(world.site)
    send_guest_text(campaign, "Hello", GUEST, by=None)
    with pytest.raises(CampaignRefused, match="a moment ago"):
        send_guest_text(campaign, "Hello", GUEST, by=None)
    assert len(world.texts()) == 1


def refuse_member(world: World) -> tuple[Campaign, str]:
    return make_campaign(world.site), world.subscriber().phone


def opt_out(world: World) -> tuple[Campaign, str]:
    consent.opt_out(world.site, GUEST, source="WEBHOOK")
    return make_campaign(world.site), GUEST


def stop(world: World) -> tuple[Campaign, str]:
    stops.stop(None, by=None)
    return make_campaign(world.site), GUEST


def make_draft(world: World) -> tuple[Campaign, str]:
    world.site.state = Site.State.DRAFT
    world.site.save()
    return make_campaign(world.site), GUEST


def make_event(world: World) -> tuple[Campaign, str]:
    return make_campaign(world.site, route=Campaign.Route.EVENT), GUEST


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (refuse_member, "guest phones"),
        (opt_out, "opted out"),
        (stop, "Sending is stopped"),
        (make_draft, "draft"),
        (make_event, "journey"),
    ],
)
def test_nobody_else_gets_one(world: World, prepare: Any, words: str) -> None:
    campaign, phone = prepare(world)
    with pytest.raises(CampaignRefused, match=words):
        send_guest_text(campaign, "Hello", phone, by=None)
    assert world.texts() == []


def test_what_attentive_refuses_is_told(world: World) -> None:
    world.site.guest_phones = ["+17705550178"]
    world.site.save()
    with pytest.raises(CampaignRefused, match="opted-in subscriber"):
        send_guest_text(make_campaign(world.site), "Hello", "+17705550178", by=None)
    world.sandbox.add_fault("/1/messages", "reset_after")
    world.site.guest_phones = [GUEST]
    world.site.save()
    with pytest.raises(CampaignRefused, match="may still arrive"):
        send_guest_text(make_campaign(world.site), "Hello", GUEST, by=None)
