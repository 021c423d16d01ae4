"""Whatever changed between claim and call is seen, also when it changes at the same moment."""

import threading
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from loyalty import consent
from loyalty.models import Site
from messaging import last_look, queue
from messaging.models import Campaign, SendAttempt
from tests.concurrency import meanwhile
from tests.factories import make_campaign, make_message

from .world import World, state_of

pytestmark = pytest.mark.django_db


def test_a_stop_between_claim_and_call_is_obeyed(world: World) -> None:
    ada = world.subscriber()
    message = make_message(ada)
    claimed = queue.claim(world.site, 10)
    consent.opt_out(world.site, ada.phone)
    assert last_look.begin(world.site.pk, claimed) == []
    assert state_of(message) == ("SKIPPED", "OPTED_OUT")


def test_only_the_look_that_begins_a_call_commits_an_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    monkeypatch.setattr(last_look, "crash_point", passed.append)
    make_message(world.subscriber())
    claimed = last_look.sift(world.site.pk, queue.claim(world.site, 10))
    assert passed == ["after_look_locks"] and not SendAttempt.objects.exists()
    assert last_look.begin(world.site.pk, claimed) == claimed
    assert passed[1:] == ["after_look_locks", "before_attempt_commit"] and SendAttempt.objects.count() == 1


def test_an_attempt_is_written_down_once(world: World) -> None:
    attempt = SendAttempt.objects.create(message=make_message(world.subscriber()), number=1, fence=1)
    with pytest.raises(IntegrityError):
        SendAttempt.objects.create(message=attempt.message, number=1, fence=2)


@pytest.mark.parametrize(
    ("site", "campaign", "message", "outcome"),
    [
        ({"state": "DRAFT"}, {}, {}, ("SKIPPED", "SITE_DRAFT")),
        ({"state": "PAUSED"}, {}, {}, ("HELD", "SITE_PAUSED")),
        ({"state": "TEST"}, {}, {}, ("SKIPPED", "TEST_MODE")),
        ({"allowed_countries": ["CA"]}, {}, {}, ("SKIPPED", "COUNTRY")),
        ({}, {"state": "PAUSED"}, {}, ("HELD", "CAMPAIGN_PAUSED")),
        ({}, {"state": "DRAFT"}, {}, ("CANCELLED", "CAMPAIGN_NOT_LIVE")),
        ({}, {}, {"expires_at": timezone.now()}, ("EXPIRED", "EXPIRED")),
    ],
)
def test_what_changed_since_the_claim_is_seen(
    world: World, site: dict[str, Any], campaign: dict[str, Any], message: dict[str, Any], outcome: tuple[str, str]
) -> None:
    waiting = make_message(world.subscriber(), **message)
    claimed = queue.claim(world.site, 10)
    Site.objects.filter(pk=world.site.pk).update(**site or {"state": "LIVE"})
    Campaign.objects.update(**campaign or {"state": "LIVE"})
    assert last_look.begin(world.site.pk, claimed) == []
    assert state_of(waiting) == outcome


@pytest.mark.django_db(transaction=True)
def test_two_workers_share_the_room_of_a_canary(world: World) -> None:
    campaign = make_campaign(world.site, canary_size=1)
    for _ in range(2):
        make_message(world.subscriber(), campaign)
    first, second = queue.claim(world.site, 2)
    with transaction.atomic():
        assert last_look.begin(world.site.pk, [first]) == [first]
        other = meanwhile(lambda: last_look.begin(world.site.pk, [second]))
    assert other.result() == []
    assert state_of(second) == ("HELD", "CANARY")


@pytest.mark.django_db(transaction=True)
def test_an_opt_out_waits_for_a_look_under_way_and_a_look_for_an_opt_out(world: World) -> None:
    """Either the call begins before the opt-out stands, or it does not begin."""
    ada = world.subscriber()
    message = make_message(ada)
    claimed = queue.claim(world.site, 10)

    def opt_out() -> None:
        consent.opt_out(world.site, ada.phone)
        connection.close()

    waiting = threading.Thread(target=opt_out)
    with transaction.atomic():
        consent.lock_states(world.site.pk, [ada.phone])
        waiting.start()
        waiting.join(timeout=1)
        assert waiting.is_alive(), "the opt-out did not wait"
    waiting.join(timeout=20)
    assert last_look.begin(world.site.pk, claimed) == []
    assert state_of(message) == ("SKIPPED", "OPTED_OUT")
