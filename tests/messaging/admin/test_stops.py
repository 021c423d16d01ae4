"""Stop everything: one site by its managers, all sites by a superuser, and no resuming without send or expire."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from loyalty import stops
from loyalty.models import AuditEntry, SendingStop, Site, SiteMembership
from messaging.models import Message
from tests.factories import make_member, make_message, make_site, make_user

from .test_pages import log_in

Role = SiteMembership.Role
pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    return make_site()


def address(what: str, target: str) -> str:
    return reverse(f"admin:loyalty_sendingstop_{what}", args=[target])


def test_a_manager_stops_a_site_after_a_question(site: Site) -> None:
    user = make_user(site, role=Role.MANAGER)
    client = log_in(user)
    assert client.get(address("stop", site.site_id)).status_code == 200
    assert not stops.is_stopped(site.pk)
    client.post(address("stop", site.site_id), {"note": "Wrong text"})
    stop = SendingStop.objects.get()
    assert (stop.site, stop.note, stop.stopped_by) == (site, "Wrong text", user)
    html = client.get(reverse("admin:loyalty_sendingstop_changelist")).content.decode()
    assert "Sending is stopped for" in html and "Wrong text" in html
    assert not stops.is_stopped(make_site().pk)


@pytest.mark.parametrize(("choice", "state"), [("send", Message.State.HELD), ("expire", Message.State.EXPIRED)])
def test_resuming_asks_what_becomes_of_the_held(site: Site, choice: str, state: str) -> None:
    client = log_in(make_user(site, role=Role.MANAGER))
    held = make_message(make_member(site), state=Message.State.HELD, reason="STOPPED")
    other = make_message(make_member(make_site()), state=Message.State.HELD, reason="STOPPED")
    stops.stop(site, by=None)
    assert "1 text was held" in client.get(address("resume", site.site_id)).content.decode()
    client.post(address("resume", site.site_id))
    assert stops.is_stopped(site.pk)
    client.post(address("resume", site.site_id), {"held": choice})
    held.refresh_from_db()
    other.refresh_from_db()
    # What is to be sent is let go by the next tick.
    assert (held.state, other.state) == (state, Message.State.HELD)
    assert not stops.is_stopped(site.pk)
    assert AuditEntry.objects.filter(event="sending.held_expired").exists() == (choice == "expire")


def test_all_sites_are_a_superusers(site: Site) -> None:
    admin = log_in(make_user(site, role=Role.ADMIN))
    for what in ("stop", "resume"):
        assert admin.get(address(what, "all")).status_code == 403
        assert admin.post(address(what, "all")).status_code == 403
    root = log_in(User.objects.create_superuser("root"))
    root.post(address("stop", "all"))
    assert stops.is_stopped(site.pk)
    html = admin.get(reverse("admin:loyalty_sendingstop_changelist")).content.decode()
    assert "Sending is stopped for all sites" in html and "Resume sending" not in html
    root.post(address("resume", "all"))
    assert not stops.is_stopped(site.pk)


@pytest.mark.parametrize("what", ["stop", "resume"])
def test_support_may_look_and_no_more(site: Site, what: str) -> None:
    support = log_in(make_user(site, role=Role.SUPPORT))
    assert support.post(address(what, site.site_id)).status_code == 403
    assert support.get(reverse("admin:loyalty_sendingstop_changelist")).status_code == 200
    assert not SendingStop.objects.exists()


def test_another_tenants_stop_is_not_shown(site: Site) -> None:
    stops.stop(make_site(client_name="Other Ltd"), by=None, note="Secret")
    html: Any = log_in(make_user(site)).get(reverse("admin:loyalty_sendingstop_changelist")).content.decode()
    assert "Other Ltd" not in html and "Secret" not in html
