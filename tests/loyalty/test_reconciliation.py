import time
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent, eligibility, reconciliation
from loyalty.models import Consent, Site
from tests.factories import make_consent, make_member, make_site
from tests.messaging.world import World

pytestmark = pytest.mark.django_db


def soon() -> float:
    return time.monotonic() + 10


def test_an_opt_out_that_was_not_heard_is_found(sandbox: SandboxProcess) -> None:
    ours, theirs = World(sandbox), World(sandbox)
    stays, other = ours.subscriber(), theirs.subscriber()
    left = make_member(ours.site)
    make_consent(left, Consent.State.SUBSCRIBED, event_at=timezone.now() - timedelta(days=30))
    assert reconciliation.reconcile(ours.site, deadline=soon()) == 1
    assert consent.state_of(ours.site, stays.phone) == "SUBSCRIBED"
    assert consent.state_of(ours.site, left.phone) == "UNSUBSCRIBED"
    assert Consent.objects.get(address=other.phone, site=theirs.site).checked_at is None
    # Whoever was looked up is left alone for a week.
    Consent.objects.filter(site=ours.site).update(state="SUBSCRIBED")
    assert reconciliation.reconcile(ours.site, deadline=soon()) == 0


def test_a_vendor_that_does_not_answer_changes_nobody(sandbox: SandboxProcess) -> None:
    world = World(sandbox)
    member = world.subscriber()
    sandbox.add_fault("/v1/subscriptions", "status", times=None, status=503)
    assert reconciliation.reconcile(world.site, deadline=soon()) == 0
    assert consent.state_of(world.site, member.phone) == "SUBSCRIBED"


def test_a_key_that_cannot_be_opened_is_no_proof_of_anything(sandbox: SandboxProcess, settings: Any) -> None:
    world = World(sandbox)
    member = world.subscriber()
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert reconciliation.reconcile(world.site, deadline=soon()) == 0
    (answer,) = eligibility.ask(world.site, [member.phone])
    assert answer.may_be_texted is None and "FIELD_ENCRYPTION_KEYS" in answer.sentence
    assert consent.state_of(world.site, member.phone) == "SUBSCRIBED"


def test_only_live_sites_whose_webhooks_are_silent_are_looked_after() -> None:
    now = timezone.now()
    silent = make_site(last_webhook_at=now - timedelta(days=3))
    never = make_site()
    make_site(last_webhook_at=now - timedelta(hours=1))
    make_site(state=Site.State.PAUSED)
    assert reconciliation.silent_sites() == [silent, never]
