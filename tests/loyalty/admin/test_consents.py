from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from loyalty import consent
from loyalty.models import Consent, Site, SiteMembership
from tests.factories import make_member, make_site, make_user

from .pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/consent/"
QUEUE = "/admin/loyalty/consent/queue/"
State = Consent.State


@pytest.fixture
def site() -> Site:
    return make_site(client_name="Harbor Goods")


def with_pii(user: User) -> User:
    user.user_permissions.add(Permission.objects.get(codename="view_pii"))
    return User.objects.get(pk=user.pk)


def test_the_list_is_scoped_filtered_and_searched(site: Site) -> None:
    other = make_site()
    for one in (site, other):
        consent.opt_out(one, "+17705550101")
        consent.mark_to_ask(one, ["+17705550102"])
    client = browser(with_pii(make_user(site)))
    text = text_of(client.get(LIST))
    assert text.count("+1 770-555-0101") == 1
    assert "0102" not in text_of(client.get(LIST, {"state": "UNSUBSCRIBED"}))
    found = text_of(client.get(LIST, {"q": "(770) 555 0102"}))
    assert "+1 770-555-0102" in found and "0101" not in found


def test_addresses_are_masked_and_erased_ones_have_no_address(site: Site) -> None:
    consent.opt_out(site, "+17705550101")
    consent.erase(site, "+17705550102")
    html = browser(make_user(site)).get(LIST).content.decode()
    assert "555-0101" not in html and "••• 0101" in html
    assert "hash:" not in html and "Erased person" in html


def test_the_ledger_keeps_what_changed_nothing(site: Site) -> None:
    member = make_member(site)
    now = timezone.now()
    for state, at in ((State.UNSUBSCRIBED, now), (State.SUBSCRIBED, now - timedelta(days=3))):
        consent.hear(site, channel="TEXT", address=member.phone, state=state, source="WEBHOOK", event_at=at)
    consent.block(site, member.phone)
    consent.lift_block(site, member.phone)
    row = Consent.objects.get()
    text = text_of(browser(make_user(site)).get(f"{LIST}{row.pk}/change/"))
    assert "Heard “Subscribed”, which changed nothing" in text
    assert "Unknown → Unsubscribed" in text and "Block lifted: Unsubscribed" in text
    assert str(member) in text


def test_another_tenants_ledger_does_not_exist(site: Site) -> None:
    row = consent.opt_out(make_site(), "+17705550101")
    assert browser(make_user(site)).get(f"{LIST}{row.pk}/change/").status_code == 404


def test_the_queue_says_how_long_it_takes_and_why_it_waits(site: Site) -> None:
    consent.mark_to_ask(site, [f"+177055501{n:02d}" for n in range(60)])
    text = text_of(browser(make_user(site)).get(QUEUE, {"site": site.site_id}))
    assert "Waiting to be asked 60" in text and "6 seconds" in text
    assert "Nobody is asked at the moment" in text and "sign-up source ID" in text
    assert Consent.objects.filter(state=State.TO_ASK).count() == 60, "looking asks nobody"


def test_staff_pause_and_resume_the_queue_of_their_site(site: Site) -> None:
    other = make_site(state=Site.State.LIVE)
    Site.objects.filter(pk=site.pk).update(state=Site.State.LIVE)
    for one in (site, other):
        consent.mark_to_ask(one, ["+17705550101"])
    client = browser(make_user(site, role=SiteMembership.Role.MANAGER))
    support = browser(make_user(site, role=SiteMembership.Role.SUPPORT))
    actions = f"/admin/loyalty/site/{site.pk}/do/"
    assert "Pause asking" in text_of(client.get(QUEUE, {"site": site.site_id}))
    assert "Pause asking" not in text_of(support.get(QUEUE, {"site": site.site_id}))
    assert support.post(f"{actions}pause-asking/").status_code == 403
    assert client.post(f"/admin/loyalty/site/{other.pk}/do/pause-asking/").status_code == 404
    said = text_of(client.post(f"{actions}pause-asking/", follow=True))
    assert "Nobody of Harbor Goods is asked" in said and "The subscribe queue is paused" in said
    assert "Harbor Goods: the subscribe queue is paused" in text_of(client.get("/admin/"))
    text = text_of(client.get(QUEUE, {"site": site.site_id}))
    assert "Nobody is asked at the moment" in text and "Resume asking" in text and "Pause asking" not in text
    assert Site.objects.get(pk=other.pk).asking_paused_at is None
    assert "are asked again" in text_of(client.post(f"{actions}resume-asking/", follow=True))
    assert Site.objects.get(pk=site.pk).asking_paused_at is None


def test_the_queues_of_all_of_ones_sites(site: Site) -> None:
    other, third = make_site(client_name="Cedar Home"), make_site(client_name="Alpine Sports")
    for one in (site, other, third):
        consent.mark_to_ask(one, ["+17705550101"])
    client = browser(make_user(site, other, role=SiteMembership.Role.SUPPORT))
    text = text_of(client.get(QUEUE))
    assert "Harbor Goods" in text and "Cedar Home" in text and "Alpine Sports" not in text
    assert client.get(QUEUE, {"site": third.site_id}).status_code == 404


def test_queries_do_not_grow_with_the_rows(site: Site) -> None:
    client = browser(make_user(site))
    consent.opt_out(site, "+17705550101")
    one = queries_of(client, LIST)
    row = Consent.objects.get()
    ledger = queries_of(client, f"{LIST}{row.pk}/change/")
    for number in range(3):
        consent.opt_out(site, f"+1770555011{number}")
        consent.opt_out(site, "+17705550101")
    assert queries_of(client, LIST) == one <= MOST_QUERIES
    assert queries_of(client, f"{LIST}{row.pk}/change/") == ledger <= MOST_QUERIES
    assert queries_of(client, QUEUE) <= MOST_QUERIES
    assert queries_of(client, f"{QUEUE}?site={site.site_id}") <= MOST_QUERIES
